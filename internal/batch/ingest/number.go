package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"

	"sluice/internal/platform/fault"
)

// The codes of rows' errors.
const (
	CodeMissing   = "value_missing"
	CodeType      = "value_type"
	CodeRange     = "value_out_of_range"
	CodeShape     = "value_shape"
	CodeRagged    = "row_ragged"
	CodeTooLarge  = "row_too_large"
	CodeQuote     = "row_quoting"
	CodeEncoding  = "row_encoding"
	CodeNotJSON   = "row_not_json"
	CodeRest      = "file_ends_early"
	CodeLost      = "row_damaged"
	CodeDuplicate = "row_id_duplicate"
	CodeID        = "row_id_invalid"
)

func bad(code, format string, args ...any) *RowError {
	return &RowError{Code: code, Message: fault.New(fault.Invalid, format, args...).Message}
}

// shown is a cell as an error may show it.
func shown(text []byte) string {
	return strconv.Quote(fault.Clip(string(text[:min(len(text), 256)]), 40))
}

// appendText appends the element that a cell of text says.
func appendText(dst []byte, t Type, text []byte) ([]byte, *RowError) {
	if t == Bytes {
		return appendBytes(dst, text), nil
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return dst, bad(CodeMissing, "there is no value")
	}
	if t == "BOOL" {
		return appendBool(dst, text)
	}
	return appendNumber(dst, t, text)
}

func appendBytes(dst, text []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(text)))
	return append(dst, text...)
}

func appendBool(dst, text []byte) ([]byte, *RowError) {
	switch {
	case len(text) == 1 && text[0] == '1', bytes.EqualFold(text, []byte("true")):
		return append(dst, 1), nil
	case len(text) == 1 && text[0] == '0', bytes.EqualFold(text, []byte("false")):
		return append(dst, 0), nil
	}
	return dst, bad(CodeType, "%s is neither true nor false", shown(text))
}

// appendNumber appends a number that is written in decimal.
func appendNumber(dst []byte, t Type, text []byte) ([]byte, *RowError) {
	bits := 8 * t.Size()
	switch t {
	case "FP32", "FP64":
		return appendFloat(dst, bits, text)
	case "UINT8", "UINT16", "UINT32", "UINT64":
		n, err := strconv.ParseUint(string(text), 10, bits)
		if err != nil {
			return dst, wrongNumber(err, t, text)
		}
		return appendInt(dst, bits, n), nil
	}
	n, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil {
		return dst, wrongNumber(err, t, text)
	}
	return appendInt(dst, bits, uint64(n)), nil
}

func appendInt(dst []byte, bits int, n uint64) []byte {
	switch bits {
	case 8:
		return append(dst, byte(n))
	case 16:
		return binary.LittleEndian.AppendUint16(dst, uint16(n))
	case 32:
		return binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	return binary.LittleEndian.AppendUint64(dst, n)
}

func appendFloat(dst []byte, bits int, text []byte) ([]byte, *RowError) {
	if number, n := decimal(text); n > 0 && n == len(text) {
		if bits == 64 {
			if x, exact := number.float64(); exact {
				return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x)), nil
			}
		} else if x, exact := number.float32(); exact {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(x)), nil
		}
	}
	x, err := strconv.ParseFloat(string(text), bits)
	if err != nil || bytes.ContainsAny(text, "xX_") { // Go's own ways to write numbers are nobody else's
		return dst, wrongNumber(err, Type("FP"+strconv.Itoa(bits)), text)
	}
	if bits == 32 {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(x))), nil
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x)), nil
}

func wrongNumber(err error, t Type, text []byte) *RowError {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return bad(CodeRange, "%s is out of the range of %s", shown(text), t)
	case t == "FP32" || t == "FP64":
		return bad(CodeType, "%s is no number", shown(text))
	}
	return bad(CodeType, "%s is no whole number", shown(text))
}

// commas puts the point in the place of a decimal comma.
func commas(text []byte) []byte {
	if i := bytes.IndexByte(text, ','); i >= 0 && bytes.IndexByte(text, '.') < 0 {
		text = bytes.Clone(text)
		text[i] = '.'
	}
	return text
}

// encoded returns why a text is none, nil where it is.
func encoded(text []byte) *RowError {
	if bytes.IndexByte(text, 0) >= 0 {
		return bad(CodeEncoding, "the row has a NUL byte, which no text has: take it out, or convert the file to UTF-8")
	}
	if !utf8.Valid(text) {
		return bad(CodeEncoding, "the row is not UTF-8: name the file's encoding, or convert it")
	}
	return nil
}
