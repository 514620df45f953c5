package ingest

import (
	"bytes"
	"encoding/xml"
	"math"
	"strconv"
	"strings"
	"time"
)

// dateStyle is what a spreadsheet's style makes of a number.
type dateStyle uint8

const (
	noDate   dateStyle = iota
	dateOnly           // days
	dateTime           // days, and the time as a fraction
)

// styles reads which styles of cells are dates.
func (b *book) styles(name string) error {
	formats := map[string]dateStyle{}
	return b.each(name, func(t xml.Token, parents []string) error {
		e, is := t.(xml.StartElement)
		switch {
		case !is:
		case e.Name.Local == "numFmt":
			formats[attr(e, "numFmtId")] = styleOf(attr(e, "formatCode"))
		case e.Name.Local == "xf" && len(parents) > 0 && parents[len(parents)-1] == "cellXfs":
			id := attr(e, "numFmtId")
			style, own := formats[id]
			if n, err := strconv.Atoi(id); !own && err == nil {
				style = builtIn(n)
			}
			b.dates = append(b.dates, style)
		}
		return nil
	})
}

// builtIn is the style of a format that has a number only (ECMA-376 part 1, 18.8.30).
func builtIn(id int) dateStyle {
	switch {
	case id >= 14 && id <= 17, id >= 27 && id <= 31, id == 36, id >= 50 && id <= 54, id == 57, id == 58:
		return dateOnly
	case id >= 18 && id <= 22, id >= 32 && id <= 35, id == 45, id == 47, id == 55, id == 56:
		return dateTime
	}
	return noDate
}

// styleOf is the style that a format code says (18.8.31), by the letters of its first section
// that stand for parts of a date. Durations, such as [h]:mm, are numbers.
func styleOf(code string) dateStyle {
	style := noDate
	for i := 0; i < len(code); i++ {
		switch c := code[i]; c {
		case ';':
			return style
		case '\\', '_', '*':
			i++
		case '"', '[':
			end := strings.IndexByte(code[i+1:], map[byte]byte{'"': '"', '[': ']'}[c])
			if end < 0 {
				return style
			}
			if inside := strings.ToLower(code[i+1 : i+1+end]); c == '[' && strings.Trim(inside, "hms") == "" {
				return noDate
			}
			i += end + 1
		case 'h', 'H', 's', 'S':
			style = dateTime
		case 'd', 'D', 'm', 'M', 'y', 'Y':
			style = max(style, dateOnly)
		}
	}
	return style
}

// lastSerial is 9999-12-31, the last date that a spreadsheet has.
const lastSerial = 2958465

// text is a date in the form of ISO 8601, without a zone, which spreadsheets do not have.
// Since is what the date counts from, in days of the usual count.
func (d dateStyle) text(value []byte, since int64) ([]byte, bool) {
	x, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
	if err != nil || !(x >= 0) || x > lastSerial {
		return nil, false
	}
	ms := int64(math.Round(x * 86_400_000))
	days, ms := ms/86_400_000+since, ms%86_400_000
	at := time.UnixMilli(ms).UTC()
	if x < 1 && d == dateTime {
		return at.AppendFormat(nil, "15:04:05.999"), true
	}
	switch { // 25569 is 1970-01-01
	case days == 60: // 29 February 1900, which never was
		return nil, false
	case days < 60:
		days++
	}
	at = at.AddDate(0, 0, int(days-25569))
	if d == dateOnly && ms == 0 {
		return at.AppendFormat(nil, time.DateOnly), true
	}
	return at.AppendFormat(nil, "2006-01-02T15:04:05.999"), true
}
