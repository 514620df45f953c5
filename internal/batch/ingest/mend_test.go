package ingest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"sluice/internal/platform/fault"
)

// A column with fields is none of values, also where it has one field only.
func TestParquetFieldAlone(t *testing.T) {
	type field struct {
		X float32 `parquet:"x"`
	}
	type fields struct {
		Plain  field     `parquet:"plain"`
		Opt    *field    `parquet:"opt,optional"`
		Listed []field   `parquet:"listed,list"`
		List   []float32 `parquet:"list,list"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []fields{{Opt: &field{1}, Listed: []field{{1}}, List: []float32{1}}}); err != nil {
		t.Fatal(err)
	}
	for column, code := range map[string]string{"plain": "column_type", "opt": "column_type", "listed": "column_type", "list": ""} {
		s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{column}}}}
		if _, err := Inspect(t.Context(), file(b.Bytes()), File{Format: Parquet}, s, Options{}); fault.CodeOf(err) != code {
			t.Errorf("%s: %v", column, err)
		}
	}
}

// Whose values are of another type is told as what to write them.
func TestTypesToWrite(t *testing.T) {
	for as, v := range map[struct {
		t    Type
		mend string
	}]parquet.Value{
		{"FP32", "a text cannot be FP32: write the column as numbers"}:        parquet.ValueOf("1"),
		{"INT8", "true or false cannot be INT8: write the column as numbers"}: parquet.ValueOf(true),
		{"BYTES", "a number cannot be BYTES: write the column as texts"}:      parquet.ValueOf(int32(1)),
		{"BOOL", "a number cannot be BOOL: write the column as booleans"}:     parquet.ValueOf(1.5),
		{"BYTES", "true or false cannot be BYTES: write the column as texts"}: parquet.ValueOf(false),
	} {
		if _, wrong := appendValue(nil, as.t, v, false); wrong == nil || wrong.Code != CodeType || wrong.Message != as.mend {
			t.Errorf("%v: %+v", as, wrong)
		}
	}
}

// Files of pzstd begin with a frame that is skipped; what is compressed with a long window
// says so.
func TestFramesOfZstd(t *testing.T) {
	text := "id,a,b,note\n" + strings.Repeat("r,1,2,n\n", 5000)
	skipped := append([]byte{0x5e, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}, compress("zstd", []byte(text))...)
	f := inspect(t, skipped, File{Format: CSV}, two)
	if got, err := collect(t, file(skipped), f, two, Limit{Rows: 10_000, Bytes: 1 << 40}, false); err != nil || len(got) != 5000 || f.Coding.Compression != "zstd" {
		t.Errorf("%d rows, %+v, %v", len(got), f.Coding, err)
	}
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(2*maxWindow), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), file(b.Bytes()), File{Format: CSV}, two, Options{}); fault.CodeOf(err) != codeDamaged || !strings.Contains(err.Error(), "without a long window") {
		t.Error(err)
	}
}

// A delimiter that is the quote, also the one that counts without being named, is refused.
func TestDelimiterIsNoQuote(t *testing.T) {
	for d, ok := range map[Dialect]bool{{Delimiter: `"`}: false, {Delimiter: `"`, Quote: "'"}: true, {Delimiter: "'", Quote: "'"}: false, {Delimiter: `"`, Quote: "none"}: true, {}: true} {
		if err := d.Check(); (err == nil) != ok || !ok && fault.CodeOf(err) != "dialect_invalid" {
			t.Errorf("%+v: %v", d, err)
		}
	}
}
