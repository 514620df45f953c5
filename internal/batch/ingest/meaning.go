package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// meaning is what the values of a typed column are where their bare bytes do not say it:
// instants, dates, decimals. The zero meaning is that of values that say it themselves.
type meaning struct {
	name string
	// show appends a value's text, or says that it has none: an instant that no calendar has.
	show func(dst []byte, v parquet.Value) ([]byte, bool)
	// number says that the text is a number, so that it can be an element of a tensor.
	number bool
}

// is says whether values are not what their bytes say.
func (m *meaning) is() bool { return m.show != nil }

// wrong is the error of a value that has no text.
func (m *meaning) wrong() *RowError {
	return bad(CodeRange, "the value is no %s that can be written: its year, hour or digits are out of range", m.name)
}

// appendElement appends the element that a value is.
func (m *meaning) appendElement(dst []byte, t Type, v parquet.Value) ([]byte, *RowError) {
	if t == Bytes || t == "BOOL" {
		return dst, bad(CodeType, "a %s cannot be %s: write the column as %s", m.name, t, written(t))
	}
	text, ok := m.show(nil, v)
	if !ok {
		return dst, m.wrong()
	}
	if bytes.IndexByte(text, '.') >= 0 && t != "FP32" && t != "FP64" { // 12.00 is whole
		text = bytes.TrimSuffix(bytes.TrimRight(text, "0"), []byte("."))
	}
	return appendNumber(dst, t, text)
}

// The layouts of times, which are ISO 8601. A fraction has as many digits as it takes.
const (
	layoutTime    = "15:04:05.999999999"
	layoutLocal   = time.DateOnly + "T" + layoutTime // of no zone that is known
	layoutInstant = layoutLocal + "Z07:00"
)

const day = 24 * time.Hour

// date is the meaning of a count of days, or of milliseconds, since 1970.
func date(unit time.Duration) meaning {
	return meaning{name: "date", show: moment(unit, time.DateOnly)}
}

// timestamp is the meaning of a count of units since 1970: of an instant, or of what clocks
// showed somewhere.
func timestamp(unit time.Duration, instant bool) meaning {
	layout := layoutLocal
	if instant {
		layout = layoutInstant
	}
	return meaning{name: "timestamp", show: moment(unit, layout)}
}

// timeOfDay is the meaning of a count of units since midnight.
func timeOfDay(unit time.Duration) meaning {
	show := moment(unit, layoutTime)
	return meaning{name: "time", show: func(dst []byte, v parquet.Value) ([]byte, bool) {
		if n, _ := whole(v); n < 0 || n >= int64(day/unit) {
			return dst, false
		}
		return show(dst, v)
	}}
}

// moment shows counts of a unit since 1970, from the year 1 to 9999.
func moment(unit time.Duration, layout string) func([]byte, parquet.Value) ([]byte, bool) {
	each := max(int64(unit/time.Second), 1) // seconds of a unit
	per := max(int64(time.Second/unit), 1)  // units of a second
	return func(dst []byte, v parquet.Value) ([]byte, bool) {
		n, _ := whole(v)
		seconds, rest := floor(n, per)
		if seconds > math.MaxInt64/each/2 || seconds < math.MinInt64/each/2 {
			return dst, false
		}
		return instant(dst, time.Unix(seconds*each, rest*int64(time.Second)/per), layout)
	}
}

// floor divides a by b, towards the past.
func floor(a, b int64) (quotient, rest int64) {
	if quotient, rest = a/b, a%b; rest < 0 {
		quotient, rest = quotient-1, rest+b
	}
	return quotient, rest
}

func instant(dst []byte, at time.Time, layout string) ([]byte, bool) {
	if at = at.UTC(); at.Year() < 1 || at.Year() > 9999 {
		return dst, false
	}
	return at.AppendFormat(dst, layout), true
}

// julian is the meaning of the 96-bit timestamps that Hive, Impala and old Sparks write:
// nanoseconds of a day, and the day by the Julian count.
var julian = meaning{name: "timestamp", show: func(dst []byte, v parquet.Value) ([]byte, bool) {
	const epoch = 2_440_588 // 1970-01-01
	words := v.Int96()
	ns := uint64(words[1])<<32 | uint64(words[0])
	if ns >= uint64(day) {
		return dst, false
	}
	return instant(dst, time.Unix((int64(words[2])-epoch)*int64(day/time.Second), int64(ns)), layoutInstant)
}}

// identifier is the meaning of the 16 bytes of a UUID.
var identifier = meaning{name: "uuid", show: func(dst []byte, v parquet.Value) ([]byte, bool) {
	id, err := uuid.FromBytes(v.ByteArray())
	return append(dst, id.String()...), err == nil
}}

// half is the meaning of floats of 16 bits (IEEE 754 binary16), little-endian.
var half = meaning{name: "half_float", number: true, show: func(dst []byte, v parquet.Value) ([]byte, bool) {
	b := v.ByteArray()
	if len(b) != 2 {
		return dst, false
	}
	return strconv.AppendFloat(dst, float64(fromHalf(binary.LittleEndian.Uint16(b))), 'g', -1, 32), true
}}

// fromHalf is the value of a 16-bit float.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // a fraction of 2⁻²⁴
		f := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // infinite, or no number
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// maxScale is how many digits a decimal may have behind its point, or zeros before it, and how many bytes it may take: as many as
// any writer makes.
const (
	maxScale   = 76
	maxDecimal = 32
)

// fixedPoint is the meaning of whole numbers that count units of 10^-scale, below zero tens or more; those of more than
// 64 bits are two's complement, big-endian or little-endian.
func fixedPoint(scale int, little bool) meaning {
	return meaning{name: "decimal", number: true, show: func(dst []byte, v parquet.Value) ([]byte, bool) {
		var digits []byte
		switch v.Kind() {
		case parquet.Int32, parquet.Int64:
			n, _ := whole(v)
			digits = strconv.AppendInt(nil, n, 10)
		default:
			b := v.ByteArray()
			if len(b) == 0 || len(b) > maxDecimal {
				return dst, false
			}
			digits = complement(b, little).Append(nil, 10)
		}
		if digits[0] == '-' {
			digits, dst = digits[1:], append(dst, '-')
		}
		for len(digits) <= scale {
			digits = slices.Insert(digits, 0, '0')
		}
		if scale < 0 && digits[0] != '0' {
			digits = append(digits, bytes.Repeat([]byte("0"), -scale)...)
		}
		point := len(digits) - max(scale, 0)
		if dst = append(dst, digits[:point]...); scale > 0 {
			dst = append(append(dst, '.'), digits[point:]...)
		}
		return dst, true
	}}
}

// complement is the number that bytes are in two's complement.
func complement(b []byte, little bool) *big.Int {
	if little {
		b = slices.Clone(b)
		slices.Reverse(b)
	}
	n := new(big.Int).SetBytes(b)
	if b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// arrowMeaning is what the values of an Arrow type mean, and of how many bits they are. The
// meaning is none where the type's parameters are not those of the format.
func arrowMeaning(kind int8, of *fbTable) (bits int, m meaning) {
	units := [...]time.Duration{time.Second, time.Millisecond, time.Microsecond, time.Nanosecond}
	const milli = 1
	switch kind {
	case arrowDecimal:
		scale := of.int32(6)
		bits = int(of.GetInt32Slot(8, 128))
		if scale >= -maxScale && scale <= maxScale && (bits == 32 || bits == 64 || bits == 128 || bits == 256) {
			m = fixedPoint(int(scale), true)
		}
	case arrowDate:
		if of.GetInt16Slot(4, milli) == milli {
			return 64, date(time.Millisecond)
		}
		return 32, date(day)
	case arrowTime, arrowTimestamp:
		bits = 64
		unit := of.GetInt16Slot(4, 0)
		if kind == arrowTime {
			bits, unit = int(of.GetInt32Slot(6, 32)), of.GetInt16Slot(4, milli)
		}
		switch {
		case unit < 0 || int(unit) >= len(units) || bits != 32 && bits != 64:
		case kind == arrowTime:
			m = timeOfDay(units[unit])
		default:
			m = timestamp(units[unit], of.length(6) > 0)
		}
	}
	return bits, m
}

// parquetMeaning is what the values of a Parquet column mean; false: they cannot be read.
func parquetMeaning(file *parquet.File, column parquet.LeafColumn) (m meaning, ok bool) {
	t := column.Node.Type()
	if t.Kind() == parquet.FixedLenByteArray && t.Length() == 2 && halves(file, column.ColumnIndex) {
		return half, true
	}
	switch l := logical(t).(type) {
	case *format.DateType:
		return date(day), t.Kind() == parquet.Int32
	case *format.TimestampType:
		if l.Unit.Value != nil {
			return timestamp(l.Unit.Value.Duration(), l.IsAdjustedToUTC), t.Kind() == parquet.Int64
		}
		return m, false
	case *format.TimeType:
		if l.Unit.Value != nil {
			return timeOfDay(l.Unit.Value.Duration()), t.Kind() == parquet.Int32 || t.Kind() == parquet.Int64
		}
		return m, false
	case *format.DecimalType:
		return fixedPoint(int(l.Scale), false), l.Scale >= 0 && l.Scale <= maxScale && (t.Kind() != parquet.FixedLenByteArray || t.Length() <= maxDecimal)
	case *format.UUIDType:
		return identifier, t.Kind() == parquet.FixedLenByteArray && t.Length() == 16
	}
	if t.Kind() == parquet.Int96 {
		return julian, true
	}
	return m, t.Kind() != parquet.FixedLenByteArray
}

// halves says whether a column has floats of 16 bits, as the footer says and the library's types do not.
func halves(file *parquet.File, column int) bool {
	for _, e := range file.Metadata().Schema {
		if !e.Type.Valid { // it is a group
			continue
		}
		if column == 0 {
			_, is := e.LogicalType.Value.(*format.Float16Type)
			return is
		}
		column--
	}
	return false
}
