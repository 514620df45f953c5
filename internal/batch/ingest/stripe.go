package ingest

import (
	"bytes"
	"slices"
)

// stripe is an input of floating-point numbers whose columns follow one another in a file of
// CSV, and are nothing else. Its numbers are read off the record one after the other: to cut the cells out first
// takes as long as reading them.
type stripe struct {
	input, first, width int
	size                int    // bytes of an element
	data                []byte // of the row; empty: its cells have to be looked at
}

// leastStripe is the fewest columns that are worth it.
const leastStripe = 8

// newStripe returns the widest stripe; nil where there is none.
func newStripe(f *File, s *Spec) (widest *stripe) {
	if f.Dialect.Decimal == "," {
		return nil
	}
	for i := range s.Inputs {
		in := &s.Inputs[i]
		if in.Type != "FP32" && in.Type != "FP64" || len(in.Columns) != in.Width || in.Width < leastStripe || widest != nil && in.Width <= widest.width {
			continue
		}
		first := slices.Index(f.Columns, in.Columns[0])
		if first >= 0 && len(f.Columns)-first >= in.Width && slices.Equal(f.Columns[first:first+in.Width], in.Columns) && s.onlyOnce(in.Columns) {
			widest = &stripe{input: i, first: first, width: in.Width, size: in.Type.Size()}
		}
	}
	return widest
}

// onlyOnce says whether columns are wanted for one thing only.
func (s *Spec) onlyOnce(columns []string) bool {
	uses := map[string]int{s.ID: 1}
	for _, name := range s.Keep {
		uses[name]++
	}
	for i := range s.Inputs {
		for _, name := range s.Inputs[i].Columns {
			uses[name]++
		}
	}
	return !slices.ContainsFunc(columns, func(name string) bool { return uses[name] != 1 })
}

// quick takes a record whose stripe has plain numbers only, and in the other cells nothing but
// printable ASCII; it says whether it is such.
func (r *records) quick(record []byte) bool {
	s := r.stripe
	if s == nil || r.scan.quoted {
		return false
	}
	s.data = s.data[:0]
	r.cells = slices.Grow(r.cells[:0], r.columns)[:r.columns]
	rest, ok := r.plain(0, s.first, record)
	if !ok {
		return false
	}
	data := slices.Grow(s.data, s.width*s.size)[:s.width*s.size]
	n := numbers(data, s.size, rest, r.scan.delimiter)
	switch {
	case n < 0:
		return false
	case n <= len(rest): // a delimiter is behind the last
		rest = rest[n:]
	case s.first+s.width < r.columns:
		return false
	default:
		rest = nil
	}
	if last := s.first + s.width; last < r.columns || rest != nil {
		if rest, ok = r.plain(last, r.columns, rest); !ok || rest != nil {
			return false
		}
	}
	s.data = data
	return true
}

// plain takes the cells from one column to before another off a record; rest is nil
// where the record ends with them.
func (r *records) plain(from, to int, record []byte) (rest []byte, ok bool) {
	for i := from; i < to; i++ {
		n := bytes.IndexByte(record, r.scan.delimiter)
		cell, more := record, []byte(nil)
		if n >= 0 {
			cell, more = record[:n], record[n+1:]
		} else if i+1 < r.columns {
			return nil, false
		}
		for _, c := range cell {
			if c < ' ' || c > '~' {
				return nil, false
			}
		}
		r.cells[i], record = cell, more
	}
	return record, true
}
