package tensorjson

import (
	"math"
	"unicode/utf8"
	"unsafe"

	"sluice/internal/platform/fault"
)

// MaxDepth is how deep arrays and objects may be nested.
const MaxDepth = 100

// Scanner walks one JSON text from left to right and is strict about its
// grammar, with one liberty: the number tokens NaN, Infinity and -Infinity.
// It builds no tree; the caller says at each value what it expects there.
type Scanner struct {
	src   []byte
	pos   int
	depth int
}

// NewScanner returns a scanner at the start of src, which it borrows.
func NewScanner(src []byte) Scanner { return Scanner{src: src} }

// Offset returns the position of the next byte to be read.
func (s *Scanner) Offset() int { return s.pos }

// Rest returns the text from the scanner's position on.
func (s *Scanner) Rest() []byte { return s.src[s.pos:] }

// Advance moves n bytes on, past a value that was read from Rest.
func (s *Scanner) Advance(n int) { s.pos += n }

// Peek skips white space and returns the next byte without consuming it, and
// 0 at the end of the text.
func (s *Scanner) Peek() byte {
	s.pos = skipSpace(s.src, s.pos)
	if s.pos == len(s.src) {
		return 0
	}
	return s.src[s.pos]
}

// Object reads an object and calls member for each name, with the scanner at
// the value; member must consume it. The name is only valid during the call.
func (s *Scanner) Object(member func(name []byte) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	if s.take('}') {
		return s.close()
	}
	for {
		name, err := s.Text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.unexpected("':' after a name")
		}
		if err := member(name); err != nil {
			return err
		}
		if s.take('}') {
			return s.close()
		}
		if !s.take(',') {
			return s.unexpected("',' or '}' after a value")
		}
	}
}

// Array reads an array and calls element for each index, with the scanner at
// the value; element must consume it.
func (s *Scanner) Array(element func(i int) error) error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	if s.take(']') {
		return s.close()
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		if s.take(']') {
			return s.close()
		}
		if !s.take(',') {
			return s.unexpected("',' or ']' after a value")
		}
	}
}

// Text reads a string. It is a view of the source where the string holds no
// escape, else a copy.
func (s *Scanner) Text() ([]byte, error) {
	if s.Peek() != '"' {
		return nil, s.unexpected("a string")
	}
	end, plain, err := scanString(s.src, s.pos)
	if err != nil {
		return nil, err
	}
	text := s.src[s.pos+1 : end-1]
	s.pos = end
	if !plain {
		text = appendUnescaped(make([]byte, 0, len(text)), text)
	}
	return text, nil
}

// Int reads an integer that fits an int64; it refuses fractions and exponents.
func (s *Scanner) Int() (int64, error) {
	s.Peek()
	v, neg, end, ok := scanInteger(s.src, s.pos)
	if !ok {
		return 0, s.unexpected("an integer")
	}
	switch {
	case neg && v <= 1<<63:
		s.pos = end
		return -int64(v), nil
	case !neg && v <= math.MaxInt64:
		s.pos = end
		return int64(v), nil
	}
	return 0, fault.New(fault.Invalid, "at byte %d: %.40s does not fit a 64-bit integer", s.pos, s.src[s.pos:end])
}

// Uint reads an integer that is not negative and fits a uint64.
func (s *Scanner) Uint() (uint64, error) {
	s.Peek()
	v, neg, end, ok := scanInteger(s.src, s.pos)
	if !ok || neg && v != 0 {
		return 0, s.unexpected("an integer that is not negative and fits 64 bits")
	}
	s.pos = end
	return v, nil
}

// Bool reads true or false.
func (s *Scanner) Bool() (bool, error) {
	switch s.Peek() {
	case 't':
		return true, s.literal("true")
	case 'f':
		return false, s.literal("false")
	}
	return false, s.unexpected("true or false")
}

// Skip reads any one value and drops it.
func (s *Scanner) Skip() error {
	switch s.Peek() {
	case '{':
		return s.Object(func([]byte) error { return s.Skip() })
	case '[':
		return s.Array(func(int) error { return s.Skip() })
	case '"':
		end, _, err := scanString(s.src, s.pos)
		if err != nil {
			return err
		}
		s.pos = end
		return nil
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	end, ok := skipNumber(s.src, s.pos)
	if !ok {
		return s.unexpected("a value")
	}
	s.pos = end
	return nil
}

// End checks that only white space is left.
func (s *Scanner) End() error {
	s.Peek()
	if s.pos != len(s.src) {
		return s.unexpected("the end of the JSON text")
	}
	return nil
}

// Skip returns the length of the JSON value, and of the white space before it,
// that src starts with.
func Skip(src []byte) (int, error) {
	s := NewScanner(src)
	err := s.Skip()
	return s.pos, err
}

func (s *Scanner) open(c byte, what string) error {
	if s.Peek() != c {
		return s.unexpected(what)
	}
	if s.depth++; s.depth > MaxDepth {
		return fault.New(fault.Invalid, "at byte %d: JSON is nested deeper than %d levels", s.pos, MaxDepth)
	}
	s.pos++
	return nil
}

func (s *Scanner) close() error { s.depth--; return nil }

// take consumes the next byte after white space if it is c.
func (s *Scanner) take(c byte) bool {
	if s.Peek() != c || s.pos == len(s.src) {
		return false
	}
	s.pos++
	return true
}

func (s *Scanner) literal(word string) error {
	rest := s.src[s.pos:]
	if len(rest) < len(word) || string(rest[:len(word)]) != word {
		return s.unexpected(word)
	}
	s.pos += len(word)
	return nil
}

func (s *Scanner) unexpected(want string) error { return unexpected(s.src, s.pos, "", want) }

// unexpected says what stands at src[i] instead of what should; of says of what
// src is the text.
func unexpected(src []byte, i int, of, want string) error {
	if i >= len(src) {
		return fault.New(fault.Invalid, "at byte %d%s: the JSON text ends where %s was expected", i, of, want)
	}
	r, _ := utf8.DecodeRune(src[i:])
	return fault.New(fault.Invalid, "at byte %d%s: expected %s, got %q", i, of, want, r)
}

// skipSpace returns the index of the first byte from i on that is not white space.
func skipSpace(src []byte, i int) int {
	for i < len(src) && src[i] <= ' ' && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

// view returns the bytes as a string that shares their memory.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
