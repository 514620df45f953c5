package xlsx

import (
	"math"
	"strconv"
	"unicode/utf8"

	"sluice/internal/batch/encode/cell"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// exact is the greatest magnitude of integers that are written as numbers:
// Excel shows 15 significant digits and rounds the rest away. An id that is
// longer must not lose its end.
const exact = 999_999_999_999_999

// cell writes a cell. It has no reference, which is optional (18.3.1.4): a
// reader counts, so a null is a cell without a value. References would be a
// third of the file and of the time.
func (w *Writer) cell(c *table.Column, i, row int) {
	if c.Null(row) {
		w.buf = append(w.buf, "<c/>"...)
		return
	}
	switch c.Type {
	case table.String, table.JSON:
		w.text(i, c.Text(row), styleNone)
	case table.Int:
		if v := c.Ints[row]; v >= -exact && v <= exact {
			w.buf = append(w.buf, `<c><v>`...)
			w.buf = append(cell.AppendInt(w.buf, v), valueEnd...)
		} else {
			w.text(i, strconv.AppendInt(nil, v, 10), styleNone)
		}
	case table.Float:
		w.float(i, c.Floats[row], 64)
	case table.Float32:
		w.float(i, float64(c.Float32s[row]), 32)
	case table.Bool:
		w.buf = append(w.buf, `<c t="b"><v>`...)
		digit := byte('0')
		if c.Bools[row] {
			digit = '1'
		}
		w.buf = append(append(w.buf, digit), valueEnd...)
	case table.Time:
		w.time(i, c.Ints[row])
	}
}

const valueEnd = "</v></c>"

// float writes a number; what is none is text.
func (w *Writer) float(i int, v float64, bits int) {
	if !cell.Finite(v) {
		w.text(i, cell.AppendFloat(nil, v), styleNone)
		return
	}
	w.buf = append(w.buf, `<c><v>`...)
	if bits == 32 {
		w.buf = cell.AppendFloat32(w.buf, float32(v))
	} else {
		w.buf = cell.AppendFloat(w.buf, v)
	}
	w.buf = append(w.buf, valueEnd...)
}

// Serial numbers of days, as Excel counts them: 25569 is 1970-01-01. Before 1
// March 1900 it counts a day that never was, and after 9999 it has no dates.
const (
	epochSerial = 25569
	firstSerial = 61
	lastSerial  = 2958465
	dayMicros   = 86_400_000_000
)

// time writes an instant as a date of the zone; one that Excel has no date for
// is text.
func (w *Writer) time(i int, micros int64) {
	local, _ := w.clock.Local(micros)
	days, rest := local/dayMicros, local%dayMicros
	if rest < 0 {
		days, rest = days-1, rest+dayMicros
	}
	serial := days + epochSerial
	if serial < firstSerial || serial > lastSerial {
		text, ok := w.clock.AppendTime(nil, micros)
		if !ok {
			w.fail(cell.ErrTime(micros))
			return
		}
		w.text(i, text, styleNone)
		return
	}
	w.buf = append(w.buf, `<c s="2"><v>`...)
	w.buf = strconv.AppendInt(w.buf, serial, 10)
	if rest > 0 {
		// Twelve decimals of a day are 86 ns: below the float64 that Excel reads.
		w.buf = appendDecimals(append(w.buf, '.'), rest*10_000/864, 12)
	}
	w.buf = append(w.buf, valueEnd...)
}

// appendDecimals appends n with zeros in front, and without those at its end.
func appendDecimals(dst []byte, n int64, digits int) []byte {
	for n > 0 && n%10 == 0 {
		n /= 10
		digits--
	}
	start := len(dst)
	dst = append(dst, "000000000000"[:digits]...)
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] += byte(n % 10)
		n /= 10
	}
	return dst
}

// Cell styles, the indices of cellXfs in styles.
const (
	styleNone   = ""
	styleHeader = ` s="1"`
)

// text writes an inline string, which is never taken for a formula.
func (w *Writer) text(i int, text []byte, style string) {
	// No text has more UTF-16 units than bytes.
	if len(text) > MaxText && units(text) > MaxText {
		w.fail(fault.New(fault.Unprocessable, "sheet %d, row %d, column %q: a cell of a spreadsheet holds %d characters, this text has %d; "+
			"leave the column out, or choose CSV, JSONL or Parquet", len(w.sheets), w.number, w.schema[i].Name, MaxText, units(text)).WithCode("text_too_long"))
		return
	}
	w.buf = append(append(append(w.buf, `<c`...), style...), ` t="inlineStr"><is><t>`...)
	if spaced(text) {
		w.buf = append(w.buf[:len(w.buf)-1], ` xml:space="preserve">`...)
	}
	w.buf = append(appendText(w.buf, text), "</t></is></c>"...)
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// spaced reports whether an XML reader may cut the text's ends.
func spaced(text []byte) bool {
	return len(text) > 0 && (text[0] <= ' ' || text[len(text)-1] <= ' ')
}

// units returns the UTF-16 units of a text.
func units(text []byte) (n int) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		n++
		if r > math.MaxUint16 {
			n++
		}
	}
	return n
}
