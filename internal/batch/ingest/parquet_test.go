package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// File implements Random.
func (f file) File(context.Context) (io.ReaderAt, int64, error) {
	return bytes.NewReader(f), int64(len(f)), nil
}

type parquetRow struct {
	ID   string    `parquet:"id"`
	A    *float32  `parquet:"a,optional"`
	B    int64     `parquet:"b"`
	List []float64 `parquet:"list,list"`
	Note string    `parquet:"note,optional"`
	Deep struct {
		X int32
		Y int32
	} `parquet:"deep"`
}

func parquetOf(t testing.TB, rows []parquetRow, group int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, parquet.MaxRowsPerRowGroup(group), parquet.PageBufferSize(64))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var ofParquet = &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"a", "b"}}, {Name: "y", Type: "FP64", Width: 3, Columns: []string{"list"}}}, ID: "id", Keep: []string{"note", "b"}}

// Whatever the groups and pages, and wherever a reader begins: rows are what was
// written, and bad ones cost no others.
func TestParquetLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := make([]parquetRow, rapid.IntRange(1, 50).Draw(rt, "n"))
		for i := range rows {
			rows[i] = parquetRow{ID: fmt.Sprintf("r%d", i), B: int64(i), Note: rapid.SampledFrom([]string{"", "n"}).Draw(rt, "note")}
			if a := rapid.Float32().Draw(rt, "a"); i%7 != 3 {
				rows[i].A = &a
			}
			rows[i].List = rapid.SliceOfN(rapid.Float64(), 3, 3).Draw(rt, "list")
			if rapid.IntRange(0, 5).Draw(rt, "odd") == 0 {
				rows[i].List = rows[i].List[:rapid.IntRange(0, 2).Draw(rt, "short")]
			}
		}
		data := parquetOf(t, rows, rapid.Int64Range(1, 20).Draw(rt, "group"))
		f, err := Inspect(t.Context(), file(data), File{Format: Parquet}, ofParquet, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		at, got := f.First, []seen(nil)
		for c := new(Chunk); ; {
			r, err := Open(t.Context(), file(data), f, ofParquet, at, Options{})
			if err != nil {
				rt.Fatal(err)
			}
			l := Limit{Rows: rapid.IntRange(1, 9).Draw(rt, "rows"), Bytes: 1 << 20}
			if err := r.Read(c, l); err == io.EOF { //nolint:errorlint // it is returned as it is
				break
			} else if err != nil {
				rt.Fatal(err)
			}
			for range c.Rows {
				c.Lines = append(c.Lines, 0) // there are none
			}
			got = append(got, rowsOf(t, c, ofParquet, l)...)
			if at = r.Position(); at.Row != int64(len(got)) {
				rt.Fatalf("%+v after %d rows", at, len(got))
			}
		}
		if len(got) != len(rows) {
			rt.Fatalf("%d rows of %d", len(got), len(rows))
		}
		for i, row := range rows {
			want := ""
			if len(row.List) != 3 {
				want = CodeShape
				if len(row.List) == 0 {
					want = CodeMissing
				}
			}
			if row.A == nil {
				want = CodeMissing
			}
			g := got[i]
			if g.Code != want || g.ID != row.ID || g.Kept[0] != row.Note || g.Kept[1] != fmt.Sprint(i) {
				rt.Fatalf("row %d: %+v, want %q", i, g, want)
			}
			if want == "" && (string(g.Data[0]) != pair(*row.A, float32(i)) || math.Float64frombits(binary.LittleEndian.Uint64(g.Data[1][16:])) != row.List[2]) {
				rt.Fatalf("row %d: % x", i, g.Data)
			}
		}
	})
}

func TestBadParquet(t *testing.T) {
	a := float32(1)
	good := parquetOf(t, []parquetRow{{ID: "r", A: &a, List: []float64{1, 2, 3}}}, 10)
	of := func(column string) *Spec {
		return &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{column}}}}
	}
	for name, tt := range map[string]struct {
		data []byte
		spec *Spec
		code string
	}{
		"no Parquet": {[]byte("id,a\n1,2\n"), ofParquet, "file_damaged"}, "nothing": {nil, ofParquet, "file_damaged"}, "cut off": {good[:len(good)-20], ofParquet, "file_damaged"},
		"no rows": {parquetOf(t, nil, 10), ofParquet, "file_empty"}, "no column": {good, of("none"), "columns_missing"}, "fields": {good, of("deep"), "column_type"},
	} {
		if _, err := Inspect(t.Context(), file(tt.data), File{Format: Parquet}, tt.spec, Options{}); fault.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := inspect(t, good, File{Format: Parquet}, of("id"))
	r, err := Open(t.Context(), file(good), f, of("id"), f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := new(Chunk)
	if err := r.Read(c, Limit{Rows: 9, Bytes: 1}); err != nil || len(c.Errors) != 1 || c.Errors[0].Code != CodeType || c.Errors[0].Column != "id" {
		t.Errorf("%+v, %v", c, err)
	}
}

// A damaged file is an error, never a panic, and none of its rows is a good one that
// was not written. Which bytes hurt is the library's affair.
func FuzzParquet(f *testing.F) {
	a := float32(1)
	f.Add(parquetOf(f, []parquetRow{{ID: "r", A: &a, List: []float64{1, 2, 3}}, {ID: "s", List: []float64{1}}}, 10))
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := Inspect(t.Context(), file(data), File{Format: Parquet}, ofParquet, Options{})
		if err != nil {
			return
		}
		r, err := Open(t.Context(), file(data), opened, ofParquet, opened.First, Options{})
		if err != nil {
			return
		}
		for c := new(Chunk); r.Read(c, Limit{Rows: 100, Bytes: 1 << 20}) == nil && r.Position().Row < 1000; {
			if len(c.Good)+len(c.Errors) != c.Rows {
				t.Fatalf("%d good and %d bad of %d rows", len(c.Good), len(c.Errors), c.Rows)
			}
		}
	})
}

// Whatever byte of a file is wrong: it is an error or other rows, and no panic.
func TestDamagedParquet(t *testing.T) {
	a := float32(1)
	good := parquetOf(t, []parquetRow{{ID: "r", A: &a, List: []float64{1, 2, 3}}, {ID: "s", List: []float64{1}}}, 10)
	for i := range good {
		data := bytes.Clone(good)
		data[i] ^= 0x15
		opened, err := Inspect(t.Context(), file(data), File{Format: Parquet}, ofParquet, Options{})
		if err != nil {
			continue
		}
		r, err := Open(t.Context(), file(data), opened, ofParquet, opened.First, Options{})
		if err != nil {
			continue
		}
		for c, n := new(Chunk), 0; n < 10 && r.Read(c, Limit{Rows: 100, Bytes: 1 << 20}) == nil; n++ {
			if len(c.Good)+len(c.Errors) != c.Rows {
				t.Fatalf("byte %d: %d good and %d bad of %d rows", i, len(c.Good), len(c.Errors), c.Rows)
			}
		}
		_ = r.Close()
	}
}

type wideRow struct {
	U uint32   `parquet:"u"`
	V uint64   `parquet:"v"`
	T string   `parquet:"t,dict"`
	L []string `parquet:"l,list,dict"`
}

// What a dictionary says once counts as often as it is there, and a row of too many
// bytes costs itself only.
func TestParquetRepeats(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	rows := make([]wideRow, 200)
	for i := range rows {
		rows[i] = wideRow{U: uint32(i), T: long}
	}
	rows[150].L = slices.Repeat([]string{long}, 50)
	var b bytes.Buffer
	if err := parquet.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	s := &Spec{Inputs: []Input{{Name: "x", Type: "INT64", Width: 1, Columns: []string{"u"}}, {Name: "l", Type: Bytes, Width: 50, Columns: []string{"l"}}}, Keep: []string{"t"}}
	data := file(b.Bytes())
	f := inspect(t, data, File{Format: Parquet}, s)
	r, err := Open(t.Context(), data, f, s, f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for c, n := new(Chunk), 0; n < len(rows); n += c.Rows {
		if err := r.Read(c, Limit{Rows: 1000, Bytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		if c.Rows > 11 || c.Kept[0].Bytes() > 2<<20 {
			t.Fatalf("%d rows and %d bytes in a chunk of a mebibyte", c.Rows, c.Kept[0].Bytes())
		}
		for i := range c.Rows {
			if bad := n+i == 150; !bad && string(c.Kept[0].Text(i)) != long || bad != slices.ContainsFunc(c.Errors, func(e RowError) bool { return e.Row == i && e.Code == CodeTooLarge }) {
				t.Errorf("row %d: %+v", n+i, c.Errors)
			}
		}
	}
}

// Numbers without a sign stay so.
func TestParquetLogicalTypes(t *testing.T) {
	var b bytes.Buffer
	if err := parquet.Write(&b, []wideRow{{U: 3_000_000_000, V: math.MaxUint64, L: []string{"a"}}}); err != nil {
		t.Fatal(err)
	}
	data := file(b.Bytes())
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP64", Width: 2, Columns: []string{"u", "v"}}, {Name: "y", Type: "UINT64", Width: 2, Columns: []string{"u", "v"}}}, ID: "u", Keep: []string{"v"}}
	f := inspect(t, data, File{Format: Parquet}, s)
	r, err := Open(t.Context(), data, f, s, f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := new(Chunk)
	if err := r.Read(c, Limit{Rows: 9, Bytes: 1 << 20}); err != nil || len(c.Good) != 1 {
		t.Fatalf("%v, %+v", err, c.Errors)
	}
	x, y := c.Tensors[0].Slice(0, 1), c.Tensors[1].Slice(0, 1)
	if math.Float64frombits(binary.LittleEndian.Uint64(x)) != 3e9 || math.Float64frombits(binary.LittleEndian.Uint64(x[8:])) != math.MaxUint64 ||
		binary.LittleEndian.Uint64(y) != 3e9 || binary.LittleEndian.Uint64(y[8:]) != math.MaxUint64 {
		t.Errorf("% x, % x", x, y)
	}
	if string(c.IDs.Text(0)) != "3000000000" || string(c.Kept[0].Text(0)) != "18446744073709551615" {
		t.Errorf("%s, %s", c.IDs.Text(0), c.Kept[0].Text(0))
	}
}
