package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// A decimal is its digits with the point where the scale says, however many bytes it has and in
// whichever order.
func TestFixedPointLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size, scale := rapid.IntRange(1, maxDecimal).Draw(t, "bytes"), rapid.IntRange(-maxScale, maxScale).Draw(t, "scale")
		big1, little := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "number"), make([]byte, size)
		for i, b := range big1 {
			little[size-1-i] = b
		}
		n := new(big.Int).SetBytes(big1)
		if big1[0] >= 128 {
			n.Sub(n, new(big.Int).Exp(big.NewInt(256), big.NewInt(int64(size)), nil))
		}
		unit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(scale, -scale))), nil))
		if scale > 0 {
			unit.Inv(unit)
		}
		want := unit.Mul(unit, new(big.Rat).SetInt(n)).FloatString(max(scale, 0))
		for order, b := range map[bool][]byte{false: big1, true: little} {
			m := fixedPoint(scale, order)
			if got, ok := m.show(nil, parquet.FixedLenByteArrayValue(b)); !ok || string(got) != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if n.IsInt64() {
			m := fixedPoint(scale, false)
			if got, _ := m.show(nil, parquet.Int64Value(n.Int64())); string(got) != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

// Instants read back as what they were, in every unit, as far as years have four digits; what lies beyond has no text.
func TestMomentLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Microsecond, time.Millisecond, time.Second, day}).Draw(t, "unit")
		n := rapid.Int64().Draw(t, "count")
		m := timestamp(unit, true)
		text, ok := m.show(nil, parquet.Int64Value(n))
		at := new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(unit))) // nanoseconds since 1970
		first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		within := at.Cmp(nanos(first)) >= 0 && at.Cmp(nanos(last)) < 0
		if ok != within {
			t.Fatalf("%d × %s: %q, within %t", n, unit, text, within)
		}
		if !ok {
			return
		}
		back, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil || nanos(back).Cmp(at) != 0 {
			t.Errorf("%d × %s is %q, %v", n, unit, text, err)
		}
	})
}

func nanos(t time.Time) *big.Int {
	n := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1e9))
	return n.Add(n, big.NewInt(int64(t.Nanosecond())))
}

// Every float of 16 bits is what IEEE 754 says: (-1)^sign × 2^(exponent-15) × 1.fraction.
func TestHalves(t *testing.T) {
	for bits := range 1 << 16 {
		exponent, fraction := bits>>10&31, float64(bits&1023)/1024
		want := math.Ldexp(1+fraction, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -14)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			want = math.NaN()
		}
		if bits >= 1<<15 {
			want = -want
		}
		got := float64(fromHalf(uint16(bits)))
		if math.IsNaN(want) != math.IsNaN(got) || !math.IsNaN(want) && (got != want || math.Signbit(got) != math.Signbit(want)) {
			t.Fatalf("%#x is %g, want %g", bits, got, want)
		}
	}
}

type meantRow struct {
	Day   int32            `parquet:"day,date"`
	At    time.Time        `parquet:"at,timestamp(microsecond)"`
	Old   deprecated.Int96 `parquet:"old"`
	Noon  int64            `parquet:"noon,time(microsecond)"`
	Price int64            `parquet:"price,decimal(2:18)"`
	Big   [16]byte         `parquet:"big,decimal(3:38)"`
	UUID  [16]byte         `parquet:"uuid,uuid"`
	Blob  [5]byte          `parquet:"blob"`
	Maybe *int64           `parquet:"maybe,optional,decimal(1:18)"`
}

var meantParquet = []meantRow{
	{
		Day: 20785, At: time.Date(2026, 11, 28, 4, 5, 6, 789_000_000, time.UTC), Old: deprecated.Int96{1, 0, 2_440_589}, Noon: 43_200_000_000,
		Price: -5, Big: [16]byte{15: 7}, UUID: [16]byte{0xf0, 15: 1}, Maybe: new(int64(15)),
	},
	{Day: math.MaxInt32, At: time.Unix(0, 0), Noon: 86_400_000_000, Price: 1200},
}

func meantOfParquet(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, meantParquet); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Dates, instants, decimals and UUIDs of a Parquet file are repeated as people write them, and decimals
// are numbers for a model. A value that no calendar has costs its row.
func TestParquetMeanings(t *testing.T) {
	data := meantOfParquet(t)
	keep := []string{"day", "at", "old", "noon", "price", "big", "maybe"}
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP64", Width: 2, Columns: []string{"price", "maybe"}}}, ID: "uuid", Keep: keep}
	got := readMeant(t, data, Parquet, s)
	want := "[2026-11-28 2026-11-28T04:05:06.789Z 1970-01-02T00:00:00.000000001Z 12:00:00 -0.05 0.007 1.5]"
	if fmt.Sprint(got[0].Kept) != want || got[0].ID != "f0000000-0000-0000-0000-000000000001" || got[0].Code != "" || fmt.Sprint(floatsOf(got[0].Data[0])) != "[-0.05 1.5]" {
		t.Errorf("%+v, want %s", got[0], want)
	}
	if got[1].Code != CodeRange || got[1].Wrong != "day" || got[1].Kept[0] != "" || got[1].Kept[4] != "12.00" {
		t.Errorf("%+v", got[1])
	}
	s = &Spec{Inputs: []Input{{Name: "n", Type: "INT32", Width: 1, Columns: []string{"price"}}}}
	if got := readMeant(t, data, Parquet, s); got[0].Code != CodeType || fmt.Sprint(got[1].Data) != "[[12 0 0 0]]" {
		t.Errorf("as a whole number: %+v", got)
	}
	for column, spec := range map[string]*Spec{
		"day": {Inputs: []Input{{Name: "x", Type: "INT32", Width: 1, Columns: []string{"day"}}}}, "blob": {Keep: []string{"blob"}},
		"uuid": {Inputs: []Input{{Name: "x", Type: Bytes, Width: 1, Columns: []string{"uuid"}}}},
	} {
		_, err := Inspect(t.Context(), file(data), File{Format: Parquet}, spec, Options{})
		if fault.CodeOf(err) != "column_type" || !strings.Contains(err.Error(), column) {
			t.Errorf("%s: %v", column, err)
		}
	}
}

func floatsOf(b []byte) (all []float64) {
	for ; len(b) > 0; b = b[8:] {
		all = append(all, math.Float64frombits(uint64(b[0])|uint64(b[1])<<8|uint64(b[2])<<16|uint64(b[3])<<24|uint64(b[4])<<32|uint64(b[5])<<40|uint64(b[6])<<48|uint64(b[7])<<56))
	}
	return all
}

func readMeant(t *testing.T, data []byte, format Format, s *Spec) (all []seen) {
	t.Helper()
	f := inspect(t, data, File{Format: format}, s)
	rapid.Check(t, func(rt *rapid.T) { all = readAll(t, rt, data, f, s) })
	return all
}

// The same of Arrow, in all its widths; texts may be views of buffers in any order.
func TestArrowMeanings(t *testing.T) {
	long := strings.Repeat("a text that is in a buffer of its own", 3)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "day", Type: arrow.FixedWidthTypes.Date32}, {Name: "ms", Type: arrow.FixedWidthTypes.Date64}, {Name: "s", Type: arrow.FixedWidthTypes.Timestamp_s},
		{Name: "local", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}}, {Name: "noon", Type: arrow.FixedWidthTypes.Time32s},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 38, Scale: 2}}, {Name: "half", Type: arrow.FixedWidthTypes.Float16}, {Name: "text", Type: arrow.BinaryTypes.StringView, Nullable: true},
		{Name: "texts", Type: arrow.ListOf(arrow.BinaryTypes.StringView)},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	texts := []string{long, "short", "", long + "2"}
	for i, text := range texts {
		b.Field(0).(*array.Date32Builder).Append(arrow.Date32(20785 + i))
		b.Field(1).(*array.Date64Builder).Append(arrow.Date64(86_400_000 * i))
		b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(-i))
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		b.Field(4).(*array.Time32Builder).Append(arrow.Time32(43_200 + i))
		b.Field(5).(*array.Decimal128Builder).Append(decimal128.FromI64(int64(-125 * i)))
		b.Field(6).(*array.Float16Builder).Append(float16.New(float32(i) / 2))
		if text == "" {
			b.Field(7).AppendNull()
		} else {
			b.Field(7).(*array.StringViewBuilder).Append(text)
		}
		l := b.Field(8).(*array.ListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.StringViewBuilder).Append(text)
		l.ValueBuilder().(*array.StringViewBuilder).Append(long)
	}
	record := b.NewRecordBatch()
	s := &Spec{
		Inputs: []Input{{Name: "x", Type: "FP64", Width: 2, Columns: []string{"price", "half"}}, {Name: "t", Type: Bytes, Width: 2, Columns: []string{"texts"}}},
		Keep:   []string{"day", "ms", "s", "local", "noon", "price", "text"},
	}
	for name, options := range codecs {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w, err := ipc.NewFileWriter(&out, append(options, ipc.WithSchema(schema))...)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.Write(record), w.Write(record), w.Close()); err != nil {
				t.Fatal(err)
			}
			got := readMeant(t, out.Bytes(), Arrow, s)
			if len(got) != 2*len(texts) {
				t.Fatalf("%d rows", len(got))
			}
			for i, g := range got {
				i %= len(texts)
				n := float64(i)
				kept := []string{
					time.Date(2026, 11, 28+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly), fmt.Sprintf("1970-01-%02d", 1+i), time.Unix(int64(-i), 0).UTC().Format(time.RFC3339),
					time.Unix(0, int64(i)).UTC().Format("2006-01-02T15:04:05.999999999"), fmt.Sprintf("12:00:%02d", i), fmt.Sprintf("%.2f", 0-1.25*n), texts[i],
				}
				list := append(appendBytes(nil, []byte(texts[i])), appendBytes(nil, []byte(long))...)
				if numbers := floatsOf(g.Data[0]); fmt.Sprint(g.Kept) != fmt.Sprint(kept) || numbers[0] != -1.25*n || numbers[1] != n/2 || !bytes.Equal(g.Data[1], list) {
					t.Errorf("row %d: %+v, want %q", i, g, kept)
				}
			}
		})
	}
}
