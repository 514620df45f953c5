package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"
)

type floatRow struct {
	Plain  []float32  `parquet:"plain"`
	Few    []float32  `parquet:"few,dict,zstd"`
	Nulls  []*float32 `parquet:"nulls,list"`
	Double []float64  `parquet:"double"`
}

// Lists of floats that are read whole are those that were written, whatever the pages,
// and beside pages that are not.
func TestFloatsLaw(t *testing.T) {
	const width = 4
	rapid.Check(t, func(rt *rapid.T) {
		lists := func(name string) (out [][]float32) {
			odd := rapid.SampledFrom([]int{0, 0, 1, 5}).Draw(rt, name+" odd")
			for range 40 {
				n := width
				if rapid.IntRange(0, 9).Draw(rt, "odd") < odd {
					n = rapid.IntRange(0, 2*width).Draw(rt, "length")
				}
				out = append(out, rapid.SliceOfN(rapid.Float32Range(-9, 9), n, n).Draw(rt, name))
			}
			return out
		}
		want := map[string][][]float32{"plain": lists("plain"), "few": lists("few"), "nulls": lists("nulls")}
		rows := make([]floatRow, 40)
		hasNull := make([]bool, 40)
		for i := range rows {
			rows[i].Plain, rows[i].Few = want["plain"][i], want["few"][i]
			for j := range want["nulls"][i] {
				x := &want["nulls"][i][j]
				if rapid.IntRange(0, 30).Draw(rt, "null") == 0 {
					x, hasNull[i] = nil, true
				}
				rows[i].Nulls = append(rows[i].Nulls, x)
			}
		}
		var b bytes.Buffer
		w := parquet.NewGenericWriter[floatRow](&b, parquet.MaxRowsPerRowGroup(rapid.Int64Range(1, 40).Draw(rt, "group")),
			parquet.PageBufferSize(rapid.IntRange(16, 400).Draw(rt, "page")), parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "version")))
		if _, err := w.Write(rows); err != nil {
			rt.Fatal(err)
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		for name, lists := range want {
			datatype := rapid.SampledFrom([]Type{"FP32", "FP64"}).Draw(rt, "type")
			s := &Spec{Inputs: []Input{{Name: "x", Type: datatype, Width: width, Columns: []string{name}}}}
			f, err := Inspect(t.Context(), file(b.Bytes()), File{Format: Parquet}, s, Options{})
			if err != nil {
				rt.Fatal(err)
			}
			r, err := Open(t.Context(), file(b.Bytes()), f, s, f.First, Options{})
			if err != nil {
				rt.Fatal(err)
			}
			row := 0
			for c := new(Chunk); ; row += c.Rows {
				if err := r.Read(c, Limit{Rows: rapid.IntRange(1, 15).Draw(rt, "rows"), Bytes: 1 << 20}); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					rt.Fatal(err)
				}
				if rapid.IntRange(0, 2).Draw(rt, "again") == 0 { // another goes on
					at := r.Position()
					if err := r.Close(); err != nil {
						rt.Fatal(err)
					}
					if r, err = Open(t.Context(), file(b.Bytes()), f, s, at, Options{}); err != nil {
						rt.Fatal(err)
					}
				}
				good := 0
				for i := range c.Rows {
					list := lists[row+i]
					fits := len(list) == width && (name != "nulls" || !hasNull[row+i])
					if slices.Contains(c.Good, i) != fits {
						rt.Fatalf("%s, row %d of %v: good %t", name, row+i, list, !fits)
					}
					if !fits {
						continue
					}
					data := c.Tensors[0].Slice(good, good+1)
					for j, x := range list {
						var got float64
						if datatype == "FP32" {
							got = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*j:])))
						} else {
							got = math.Float64frombits(binary.LittleEndian.Uint64(data[8*j:]))
						}
						if got != float64(x) {
							rt.Fatalf("%s, row %d: %v at %d, want %v", name, row+i, got, j, list)
						}
					}
					good++
				}
			}
			if row != len(rows) {
				rt.Fatalf("%s: %d rows", name, row)
			}
			if err := r.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// Lists of lists are read as the values of all of them.
func TestNestedFloats(t *testing.T) {
	type inner struct {
		Y []float32 `parquet:"y"`
	}
	type outer struct {
		X []inner `parquet:"x"`
	}
	for _, version := range []int{1, 2} {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[outer](&b, parquet.DataPageVersion(version))
		for i := range 20 {
			x := float32(i)
			if _, err := w.Write([]outer{{X: []inner{{Y: []float32{x, 1}}, {Y: []float32{2, 3}}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 4, Columns: []string{"x"}}}}
		r, err := Open(t.Context(), file(b.Bytes()), File{Format: Parquet}, s, Position{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := new(Chunk)
		if err := r.Read(c, Limit{Rows: 20, Bytes: 1 << 20}); err != nil || len(c.Good) != 20 {
			t.Fatalf("version %d: %d rows, %v, %v", version, len(c.Good), c.Errors, err)
		}
		for i := range c.Good {
			if got := c.Tensors[0].Slice(i, i+1); string(got) != pair(float32(i), 1)+pair(2, 3) {
				t.Errorf("version %d, row %d: % x", version, i, got)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkParquetFloats(b *testing.B) {
	const rows, width = 4000, 784
	var text bytes.Buffer
	w := parquet.NewGenericWriter[floatRow](&text)
	for i := range rows {
		row := make([]float32, width)
		for j := range row {
			row[j] = float32(i*j%251) / 256
		}
		if _, err := w.Write([]floatRow{{Plain: row}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: width, Columns: []string{"plain"}}}}
	c := new(Chunk)
	for b.Loop() {
		r, err := Open(b.Context(), file(text.Bytes()), File{Format: Parquet}, s, Position{}, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Read(c, Limit{Rows: rows, Bytes: math.MaxInt64}); err != nil || len(c.Good) != rows {
			b.Fatal(err, len(c.Good))
		}
		_ = r.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "us/row")
}
