package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sameNumbers compares what numbers makes of cells with what strconv does.
func sameNumbers(t interface{ Errorf(string, ...any) }, text string) {
	cells := strings.Split(text, ",")
	for _, size := range []int{4, 8} {
		got := make([]byte, size*len(cells))
		n := numbers(got, size, []byte(text), ',')
		var want []byte
		wrong := false
		for _, cell := range cells {
			x, err := strconv.ParseFloat(cell, 8*size)
			wrong = wrong || err != nil || strings.ContainsAny(cell, "xX_")
			if size == 4 {
				want = binary.LittleEndian.AppendUint32(want, math.Float32bits(float32(x)))
			} else {
				want = binary.LittleEndian.AppendUint64(want, math.Float64bits(x))
			}
		}
		if wrong != (n < 0) || !wrong && (n != len(text)+1 || !bytes.Equal(got, want)) {
			t.Errorf("%q of %d bytes: %x to %d, want %x, wrong: %t", text, size, got, n, want, wrong)
		}
	}
}

// Numbers of a row are what strconv makes of each cell: of every form, next to every other, and where the text ends.
func TestNumbersLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cells := make([]string, rapid.IntRange(1, 12).Draw(rt, "n"))
		for i := range cells {
			switch rapid.IntRange(0, 5).Draw(rt, "kind") {
			case 0:
				cells[i] = strconv.FormatFloat(float64(math.Float32frombits(rapid.Uint32().Draw(rt, "bits"))), rapid.SampledFrom([]byte("gef")).Draw(rt, "form"), rapid.IntRange(-1, 17).Draw(rt, "digits"), 32)
			case 1:
				cells[i] = strconv.FormatFloat(rapid.Float64Range(-20, 20).Draw(rt, "number"), 'g', -1, 64)
			case 2: // half-way between two of 32 bits, and next to that
				x := float64(math.Float32frombits(rapid.Uint32Range(0x3d000000, 0x4f000000).Draw(rt, "middle")))
				cells[i] = strconv.FormatFloat(math.Float64frombits(math.Float64bits(x)|1<<28+uint64(rapid.IntRange(0, 12).Draw(rt, "off"))-6), 'f', rapid.IntRange(-1, 16).Draw(rt, "places"), 64)
			case 3:
				cells[i] = strconv.FormatInt(rapid.Int64Range(-300, 1<<40).Draw(rt, "whole"), 10)
			default:
				cells[i] = rapid.StringMatching(`[-+]?[0-9]{1,9}(\.[0-9]{0,18})?([eE][-+]?[0-9]{1,2})?`).Draw(rt, "text")
			}
		}
		if rapid.IntRange(0, 9).Draw(rt, "odd") == 0 {
			cells[rapid.IntRange(0, len(cells)-1).Draw(rt, "where")] = rapid.StringMatching(`[-+.0-9eE_x\x00;é ]{0,20}`).Draw(rt, "odd cell")
		}
		sameNumbers(rt, strings.Join(cells, ","))
	})
}

func FuzzNumbers(f *testing.F) {
	for _, text := range []string{"0.99609375,1,-0.5,12345678.1234567812345678,3,0", "1.,.5,1e5,255,255,255,255,255,255", "-0.0,-12345678.12345678,16777217,1,1,1,1,1,1,1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameNumbers(t, text) })
}

// opened counts how often a file is opened.
type opened struct {
	file
	times int
}

func (o *opened) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	o.times++
	return o.file.Open(ctx, offset)
}

// A chunk far behind is gone to at once, where the file is kept as it is read; the rows are those of a reader that goes through it all.
func TestForwardFar(t *testing.T) {
	text := "a,b\n" + strings.Repeat("0.5,\"x\ny\"\n\n1,z\n", 200_000)
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"a"}}}, Keep: []string{"b"}}
	f := inspect(t, []byte(text), File{}, s)
	through, err := Open(t.Context(), file(text), f, s, f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := &opened{file: file(text)}
	far, err := Open(t.Context(), source, f, s, f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for want, got, l := new(Chunk), new(Chunk), (Limit{Rows: 150_001, Bytes: math.MaxInt64}); ; {
		if err := through.Read(want, l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		at := through.Position()
		if err := through.Read(want, l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(far.Forward(at), far.Read(got, l)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rowsOf(t, want, s, l), rowsOf(t, got, s, l)); diff != "" || far.Position() != through.Position() {
			t.Fatalf("at %+v: %s", far.Position(), diff)
		}
	}
	if source.times != 2 {
		t.Errorf("opened %d times, want 2", source.times)
	}
}

// BenchmarkCSVFloats reads rows of numbers as text, and counts them.
func BenchmarkCSVFloats(b *testing.B) {
	const rows, width = 500, 784
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: width}}}
	for i := range width {
		s.Inputs[0].Columns = append(s.Inputs[0].Columns, "p"+strconv.Itoa(i))
	}
	h := uint32(7)
	next := func() uint32 { h = h*1664525 + 1013904223; return h >> 8 }
	for _, kind := range []struct {
		name   string
		number func([]byte) []byte
	}{
		{"pixels", func(b []byte) []byte { return strconv.AppendFloat(b, float64(next()>>16)/256, 'g', -1, 32) }},
		{"whole", func(b []byte) []byte { return strconv.AppendUint(b, uint64(next()>>16), 10) }},
		{"signed", func(b []byte) []byte { return strconv.AppendFloat(b, float64(float32(next())/(1<<22)-2), 'g', -1, 32) }},
		{"double", func(b []byte) []byte { return strconv.AppendFloat(b, float64(next())/3e6-2, 'g', -1, 64) }},
	} {
		text := []byte{}
		for row := range rows + 1 {
			for i := range width {
				if row == 0 {
					text = append(text, s.Inputs[0].Columns[i]...)
				} else {
					text = kind.number(text)
				}
				text = append(text, ',')
			}
			text[len(text)-1] = '\n'
		}
		f := inspect(b, text, File{}, s)
		read := func(b *testing.B, open func() (Reader, error)) {
			c := new(Chunk)
			for b.Loop() {
				r, err := open()
				if err == nil {
					err = r.Read(c, Limit{Rows: rows, Bytes: math.MaxInt64})
				}
				if err != nil || c.Rows != rows {
					b.Fatal(err, c.Rows)
				}
				_ = r.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows)/1e3, "us/row")
		}
		b.Run(kind.name, func(b *testing.B) {
			read(b, func() (Reader, error) { return Open(b.Context(), file(text), f, s, f.First, Options{}) })
		})
		if kind.name == "pixels" {
			b.Run("count", func(b *testing.B) {
				read(b, func() (Reader, error) { return Survey(b.Context(), file(text), f, s, Options{}) })
			})
		}
	}
}
