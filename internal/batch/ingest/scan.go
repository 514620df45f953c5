package ingest

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"iter"

	"sluice/internal/platform/fault"
)

// scanner splits a stream into records at the ends of lines, save those between
// quotes. It holds one record, and skips those that are larger than max.
type scanner struct {
	r     io.Reader
	buf   []byte
	start int // of what is not scanned yet
	end   int
	eof   bool
	err   error // behind what was read
	max   int

	delimiter, quote byte // quote 0: there are none
	eol              byte

	at     Position // of what is not scanned yet
	line   int64    // of the record, from 1
	quoted bool     // the record has a quote somewhere
	sum    uint32   // of what was passed since somebody set it to 0
}

// bufSize is how much is read at a time, in bytes.
const bufSize = 256 << 10

func newScanner(r io.Reader, at Position, maxRow int) *scanner {
	return &scanner{r: r, buf: make([]byte, bufSize), max: maxRow, eol: '\n', at: at}
}

// quoting is where in a record the scan is.
type quoting struct {
	in     bool // between quotes
	any    bool // there is one
	closed bool // just behind a quote that ends them, or is the first of two
	last   byte // before what comes now; the delimiter at the record's start
}

// record returns the next record without its end, valid until the next call. Empty
// lines are none. Errors: io.EOF; a *RowError for one that is too large; the file's.
func (s *scanner) record() ([]byte, error) {
	for {
		record, err := s.one()
		if err != nil || len(record) > 0 {
			return record, err
		}
	}
}

func (s *scanner) one() ([]byte, error) {
	state := quoting{last: s.delimiter}
	s.line = s.at.Line + 1
	for seen := 0; ; {
		n := s.find(s.buf[s.start+seen:s.end], &state)
		s.quoted = state.any
		if n >= 0 {
			return s.fitting(seen + n)
		}
		seen = s.end - s.start
		switch {
		case s.eof && seen == 0:
			return nil, io.EOF
		case s.eof && state.in:
			return nil, unclosed(s.line)
		case s.eof:
			return s.fitting(seen)
		case seen > s.max:
			return nil, s.skip(&state)
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// find returns the length of the record that b begins with, its end included, -1
// where b does not have the end.
func (s *scanner) find(b []byte, st *quoting) int {
	for i := 0; i < len(b); {
		if st.in {
			j := bytes.IndexByte(b[i:], s.quote)
			if j < 0 {
				return -1
			}
			i += j + 1
			st.in, st.closed, st.last = false, true, s.quote
			continue
		}
		if st.closed && b[i] == s.quote { // two are one that means itself
			st.in, st.closed = true, false
			i++
			continue
		}
		st.closed = false
		end, part := bytes.IndexByte(b[i:], s.eol), b[i:]
		if end >= 0 {
			part = part[:end]
		}
		at := -1
		if s.quote != 0 {
			at = bytes.IndexByte(part, s.quote)
		}
		switch {
		case at < 0 && end >= 0:
			return i + end + 1
		case at < 0:
			st.last = b[len(b)-1]
			return -1
		}
		if at > 0 {
			st.last = part[at-1]
		}
		st.any = true
		st.in = st.last == s.delimiter // elsewhere it is a character like others
		st.last = s.quote
		i += at + 1
	}
	return -1
}

// fitting is take of a record that may be too large.
func (s *scanner) fitting(n int) ([]byte, error) {
	if n > s.max {
		s.pass(n)
		return nil, s.tooLarge()
	}
	return s.take(n), nil
}

func (s *scanner) tooLarge() error { return bad(CodeTooLarge, "the row has more than %d bytes", s.max) }

// take returns the first n bytes as a record, and goes on behind it.
func (s *scanner) take(n int) []byte {
	record := s.buf[s.start : s.start+n]
	s.pass(n)
	if n > 0 && record[n-1] == s.eol {
		record = record[:n-1]
	}
	if n := len(record); n > 0 && s.eol == '\n' && record[n-1] == '\r' {
		record = record[:n-1]
	}
	return record
}

// pass goes on behind n bytes.
func (s *scanner) pass(n int) {
	part := s.buf[s.start : s.start+n]
	switch {
	case s.quoted:
		s.at.Line += int64(bytes.Count(part, []byte{s.eol}))
	case n > 0 && part[n-1] == s.eol: // else there would be another record
		s.at.Line++
	}
	s.sum = crc32.Update(s.sum, castagnoli, part)
	s.at.Offset += int64(n)
	s.start += n
}

// castagnoli is the polynomial of the sums, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// forward goes on at a later position.
func (s *scanner) forward(to Position) error {
	n := to.Offset - s.at.Offset
	if n < 0 {
		return fault.New(fault.Internal, "a reader at byte %d cannot go back to %d", s.at.Offset, to.Offset)
	}
	buffered := min(n, int64(s.end-s.start))
	s.start += int(buffered)
	s.at = to
	_, err := io.CopyN(io.Discard, s.r, n-buffered)
	return err
}

// restart goes on at a position, where r begins.
func (s *scanner) restart(r io.Reader, at Position) {
	s.r, s.at = r, at
	s.start, s.end, s.eof, s.err = 0, 0, false, nil
}

// Records splits text into records, each with its end: lines, and in CSV (RFC 4180)
// without those between quotes.
func Records(text []byte, f Format) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := &scanner{buf: text, end: len(text), eol: '\n', eof: true, max: len(text)}
		if f == CSV {
			s.delimiter, s.quote = ',', '"'
		}
		for s.start < s.end {
			state := quoting{last: s.delimiter}
			n := s.find(text[s.start:], &state)
			if n < 0 {
				n = len(text) - s.start
			}
			if !yield(text[s.start : s.start+n]) {
				return
			}
			s.start += n
		}
	}
}

// fill reads more behind what is there.
func (s *scanner) fill() error {
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for tries := 0; ; tries++ {
		if s.err != nil {
			return s.err
		}
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		switch {
		case errors.Is(err, io.EOF):
			s.eof = true
			return nil
		case err != nil && n == 0:
			return err
		case n > 0:
			s.err = err // is told once the records before it are found
			return nil
		case tries == 100:
			return io.ErrNoProgress
		}
	}
}

// skip goes to the end of a record that is too large, holding nothing of it.
func (s *scanner) skip(st *quoting) error {
	for {
		s.quoted = st.any
		s.pass(s.end - s.start)
		s.start, s.end = 0, 0
		if err := s.fill(); err != nil {
			return err
		}
		if n := s.find(s.buf[:s.end], st); n >= 0 {
			s.quoted = st.any
			s.pass(n)
			break
		}
		if s.eof && s.end == 0 {
			if st.in {
				return unclosed(s.line)
			}
			break
		}
	}
	return s.tooLarge()
}

// unclosed is the error of a file whose rest is between quotes.
func unclosed(line int64) error {
	return fault.New(fault.Unprocessable, "line %d: a quote is opened in that row which is never closed", line).WithCode("csv_quote_unclosed").
		WithDetails(fault.Detail{Line: int(line), Code: "csv_quote_unclosed", Message: "a quote is opened in the row that begins here, and never closed"})
}

// split cuts a record into cells, which are valid as long as it is. Quoted cells
// are freed of their quotes in place.
func (s *scanner) split(record []byte, cells [][]byte) ([][]byte, *RowError) {
	cells = cells[:0]
	if s.quote == 0 || bytes.IndexByte(record, s.quote) < 0 {
		for {
			i := bytes.IndexByte(record, s.delimiter)
			if i < 0 {
				return append(cells, record), nil
			}
			cells, record = append(cells, record[:i]), record[i+1:]
		}
	}
	for {
		cell, rest, more, err := s.cell(record)
		if err != nil {
			return cells, err
		}
		if cells = append(cells, cell); !more {
			return cells, nil
		}
		record = rest
	}
}

// cell takes the first cell off a record.
func (s *scanner) cell(record []byte) (cell, rest []byte, more bool, err *RowError) {
	if len(record) == 0 || record[0] != s.quote {
		i := bytes.IndexByte(record, s.delimiter)
		if i < 0 {
			return record, nil, false, nil
		}
		return record[:i], record[i+1:], true, nil
	}
	out := 1 // where the next byte goes: quotes that are doubled leave one
	for i := 1; i < len(record); i++ {
		if record[i] != s.quote {
			record[out] = record[i]
			out++
			continue
		}
		if i+1 < len(record) && record[i+1] == s.quote {
			record[out] = s.quote
			out++
			i++
			continue
		}
		switch cell = record[1:out]; {
		case i+1 == len(record):
			return cell, nil, false, nil
		case record[i+1] == s.delimiter:
			return cell, record[i+2:], true, nil
		}
		return nil, nil, false, bad(CodeQuote, "a quoted cell goes on behind its quote: double quotes that belong to the text")
	}
	return nil, nil, false, bad(CodeQuote, "a quote is opened that is not closed")
}
