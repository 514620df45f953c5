package ingest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/platform/fault"
)

// sizedRow has a column whose pages may be large.
type sizedRow struct {
	X float32 `parquet:"x"`
	S string  `parquet:"s,zstd"`
}

// A page that is too large is told before the file is accepted, with its place, though it is
// behind the rows that are tried; and it is nobody's business where its column is not read.
func TestVet(t *testing.T) {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[sizedRow](&b, parquet.DataPageStatistics(false), parquet.SkipPageBounds("s"))
	for _, s := range []string{"small", "small", strings.Repeat("x", maxPage+1)} {
		if _, err := w.Write([]sizedRow{{1, s}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src := file(b.Bytes())
	numbers := Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}}
	both := numbers
	both.Keep = []string{"s"}
	f := inspect(t, b.Bytes(), File{}, &both)
	err := Vet(t.Context(), src, f, &both)
	if fault.CodeOf(err) != "file_page_too_large" || !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), `the column "s", in the group of rows 2`) {
		t.Error(err)
	}
	if _, err := Survey(t.Context(), src, f, &both, Options{}); fault.CodeOf(err) != "file_page_too_large" {
		t.Error("a survey accepts what Vet may have no time for:", err)
	}
	if err := Vet(t.Context(), src, f, &numbers); err != nil {
		t.Error(err)
	}
	if err := Vet(t.Context(), src, File{Format: CSV}, &both); err != nil {
		t.Error(err)
	}
	r, err := Open(t.Context(), src, f, &both, Position{Offset: 2, Row: 2}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Read(new(Chunk), Limit{Rows: 1, Bytes: 1}); fault.CodeOf(err) != "file_page_too_large" || !strings.Contains(err.Error(), "group of rows 2") {
		t.Error(err)
	}
}

// Of many pages only so many headers are read before the file is accepted.
func TestVetEnds(t *testing.T) {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[sizedRow](&b, parquet.PageBufferSize(1<<20), parquet.DataPageStatistics(false), parquet.SkipPageBounds("s"))
	for range maxPage>>20 + 2 {
		if _, err := w.Write([]sizedRow{{1, strings.Repeat("x", 1<<20)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := Spec{Keep: []string{"s"}}
	file, raw, err := openFile(t.Context(), file(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	m := &file.Metadata().RowGroups[0].Columns[1].MetaData
	if !mayExceed(m) {
		t.Fatalf("%+v", m)
	}
	h := headers{ctx: t.Context(), raw: raw, size: file.Size(), most: 3}
	if _, err := h.find(m, true); !errors.Is(err, errEnough) || h.seen != 4 {
		t.Error(err, h.seen)
	}
	for _, most := range []int{0, 3} {
		if err := vet(t.Context(), file, raw, &s, most); err != nil {
			t.Error(most, err)
		}
	}
}

// What is encrypted is told as that, and what to do.
func TestEncryptedParquet(t *testing.T) {
	key := []byte("0123456789abcdef")
	written := func(c *parquet.EncryptionConfig) []byte {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[sizedRow](&b, parquet.WithEncryption(c))
		_, err := w.Write([]sizedRow{{1, "a"}, {2, "b"}})
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"footer":  written(&parquet.EncryptionConfig{FooterKey: key, EncryptedFooter: true}),
		"columns": written(&parquet.EncryptionConfig{FooterKey: key}),
		"keys":    written(&parquet.EncryptionConfig{FooterKey: key, ColumnKeys: map[string][]byte{"x": key, "s": key}}),
	} {
		for _, said := range []Format{"", Parquet, CSV} {
			f, err := Inspect(t.Context(), file(data), File{Format: said}, &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}}, Options{})
			if said == CSV && name != "footer" {
				if fault.CodeOf(err) != "format_mismatch" {
					t.Errorf("%s as %s: %v", name, said, err)
				}
				continue
			}
			if fault.CodeOf(err) != codeEncrypted || !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), "decrypt it before the upload") {
				t.Errorf("%s as %s: %+v, %v", name, said, f.Columns, err)
			}
		}
	}
}
