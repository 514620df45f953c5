package ingest

import (
	"errors"
	"io"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/platform/fault"
)

// leaf reads one column of a Parquet file, row by row.
type leaf struct {
	cells
	column int
	flat   bool // each row has exactly one value
	nested bool // its lists have lists
	input  bool // nothing but an input is made of it

	by     column
	chunk  *parquet.FileColumnChunk
	from   *headers
	pages  parquet.Pages // of the group; nil: none is open
	group  int
	next   int64 // the row of the group that comes next
	page   parquet.Page
	left   parquet.ValueReader // of the page; nil: it has no more
	buf    []parquet.Value     // whose bytes are the page's or the dictionary's
	at, in int                 // what is in buf, from at to before in

	marks   marks // of the group's pages
	turned  int   // the data page that comes next
	skipped int64 // rows of it that are not wanted

	quick  floats  // the page, where it is such
	direct *direct // that pages of the group are read by; nil: pages does
	idle   *direct // the last one that is read by no more, for its memory
	tail   []byte  // memory for the last row of such a page
}

// open says whether the leaf is somewhere in a group.
func (l *leaf) open() bool { return l.pages != nil || l.direct != nil }

func (l *leaf) close() {
	l.release()
	if l.pages != nil {
		_ = l.pages.Close()
	}
	if l.direct != nil {
		l.idle = l.direct
	}
	l.pages, l.direct, l.at, l.in = nil, nil, 0, 0
}

// release gives back the page, and with it the bytes of what is in the buffer.
func (l *leaf) release() {
	if l.page != nil {
		parquet.Release(l.page)
	}
	l.page, l.left, l.quick = nil, nil, floats{}
}

// seek goes to a row of a group. Where it follows the last, the pages stay open.
func (l *leaf) seek(file *parquet.File, h *headers, group int, row int64) (err error) {
	if l.open() && l.group == group && l.next == row {
		return nil
	}
	if l.pages != nil && l.group == group && l.next < row && l.marks.unknown {
		return l.pass(row)
	}
	l.close()
	meta := &file.Metadata().RowGroups[group].Columns[l.column].MetaData
	if l.marks.pages == nil {
		if l.marks, err = h.find(meta, l.flat); err != nil {
			return inGroup(err, meta, group)
		}
	}
	l.group, l.next = group, row
	page, before := l.marks.find(row)
	l.turned, l.skipped = page, row-before
	chunk, ok := file.RowGroups()[group].ColumnChunks()[l.column].(*parquet.FileColumnChunk)
	if !ok {
		return fault.New(fault.Internal, "the columns of a Parquet file are not in a file")
	}
	l.chunk, l.from = chunk, h
	if l.input && !l.flat && !l.nested && l.marks.straight {
		l.direct = &direct{raw: h.raw}
		if l.idle != nil {
			l.direct.held, l.direct.levels = l.idle.held[:0], l.idle.levels
		}
		return nil
	}
	return l.enter()
}

// enter opens the pages from the next one on, at the first row that is wanted.
func (l *leaf) enter() error {
	l.pages = l.chunk.PagesFrom(l.vetted(l.turned))
	if l.skipped == 0 {
		return nil
	}
	return l.pages.SeekToRow(l.skipped)
}

// vetted returns the file as if the column's data began with a page.
func (l *leaf) vetted(page int) *vetted {
	raw, end := l.marks.from(l.from.raw, page), l.marks.end
	if page > 0 {
		end -= l.marks.pages[page].at - l.marks.pages[0].at
	}
	begin := l.marks.begin
	return &vetted{column: l.by, headers: headers{ctx: l.from.ctx, raw: raw, size: l.from.size}, begin: begin, end: end, at: begin, memory: &l.from.inflated}
}

// pass reads on to a later row of the group, and keeps nothing before it.
func (l *leaf) pass(row int64) error {
	for l.next < row {
		if _, err := l.read(0); err != nil {
			return err
		}
	}
	return nil
}

// read reads the next row, whose values are valid until the next call. It returns the
// bytes that they take: of a row of more than most, the rest is passed over.
func (l *leaf) read(most int64) (size int64, err error) {
	const each = 8 // bytes of a value, at least
	l.values, l.floats = l.values[:0], nil
	if err := l.whole(); err != nil {
		return 0, err
	}
	if size = each * int64(len(l.floats)/4+len(l.values)); l.floats != nil {
		l.next++
		return size, nil
	}
	for n := len(l.values); ; n++ {
		if l.at == l.in {
			l.own()
			if err := l.fill(); errors.Is(err, io.EOF) && n > 0 {
				break // the last row ends with the group
			} else if err != nil {
				return size, err
			}
		}
		v := l.buf[l.at]
		if n > 0 && v.RepetitionLevel() == 0 {
			break
		}
		l.at++
		if size += each; (v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray) && !v.IsNull() {
			size += int64(len(v.ByteArray()))
		}
		if size <= most {
			l.values = append(l.values, v)
		}
		if l.flat {
			break
		}
	}
	l.next++
	return size, nil
}

// whole reads the next row as floats, where the page has such. Where that page does not
// say where the row ends, and the next one is not such, its values so far are read as
// others are.
func (l *leaf) whole() error {
	if !l.input || l.flat || l.at < l.in || l.left != nil {
		return nil
	}
	if l.quick.at >= len(l.quick.levels) {
		if err := l.load(); err != nil {
			return err
		}
	}
	if l.floats = l.quick.row(); l.floats != nil || l.quick.values == nil {
		return nil
	}
	l.tail = append(l.tail[:0], l.quick.rest()...)
	err := l.load()
	ends := errors.Is(err, io.EOF) // the group, and the row with it
	switch {
	case err != nil && !ends:
		return err
	case ends || l.quick.values != nil: // or another row begins
		l.floats = l.tail
		return nil
	}
	for i := range len(l.tail) / 4 {
		l.values = append(l.values, parquet.ValueOf(float32At(l.tail, i)).Level(min(i, 1), 0, l.column))
	}
	return nil
}

// load reads the next page.
func (l *leaf) load() error {
	l.release()
	if l.direct != nil {
		if done, err := l.straight(); done || err != nil {
			return err
		}
	}
	page, err := l.pages.ReadPage()
	if err != nil {
		return err
	}
	l.page = page
	if err := l.counted(page.RepetitionLevels(), l.skipped); err != nil {
		return err
	}
	if !l.input || l.flat || !l.quick.open(page) {
		l.left = page.Values()
	}
	return nil
}

// straight is load of a page that is read directly. Where its rows cannot be taken whole, it and those behind it are
// read as others are.
func (l *leaf) straight() (done bool, err error) {
	if l.turned == len(l.marks.pages) || l.skipped >= l.marks.pages[l.turned].rows {
		return true, io.EOF
	}
	if done, err = l.direct.open(&l.marks, l.turned, &l.quick); err != nil {
		return false, err
	}
	if !done {
		l.direct = nil
		return false, l.enter()
	}
	skipped := l.skipped
	if err := l.counted(l.quick.levels, 0); err != nil {
		return false, err
	}
	l.quick.pass(skipped)
	return true, nil
}

// own copies the row's bytes that are the page's, which goes.
func (l *leaf) own() {
	for i, v := range l.values {
		l.values[i] = v.Clone()
	}
}

// fill reads more values into the buffer.
func (l *leaf) fill() error {
	for {
		if l.left == nil {
			if err := l.load(); err != nil {
				return err
			}
			if l.quick.values != nil { // the row may have begun before it
				l.left, l.quick = l.page.Values(), floats{}
			}
		}
		n, err := l.left.ReadValues(l.buf)
		l.at, l.in = 0, n
		switch {
		case errors.Is(err, io.EOF):
			l.left = nil
		case err != nil:
			return err
		case n == 0:
			return io.ErrNoProgress
		}
		if n > 0 {
			return nil
		}
	}
}
