package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/parquet-go/parquet-go"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// arrowMagic begins and ends a file of Arrow IPC; a stream has none.
const arrowMagic = "ARROW1"

// arrowFile is what the messages of a file or a stream say, without their bodies. A
// file is read as the stream that it has between its magic and its footer.
type arrowFile struct {
	raw    io.ReaderAt
	size   int64
	ratio  int64 // see Inflation
	whole  bool  // it is a file: dictionaries may be behind those who use them
	fields []arrowField

	batches      []arrowPart
	dictionaries []arrowPart
	broken       error // what is behind the batches; nil: nothing
}

// arrowPart is a message with a body, by where it begins.
type arrowPart struct {
	at    int64
	first int64 // row, of those of all batches
	rows  int64
	id    int64 // of a dictionary
	order int   // batches before it
}

// What the dictionaries of a file may have in memory, and how many messages there may be.
const (
	maxDictionaries = 64 << 20 // bytes
	maxMessages     = 1 << 20
)

var (
	errDictionary error = fault.New(fault.Unprocessable, "the dictionaries of the file have more than %d bytes: write the columns as texts", maxDictionaries).WithCode("file_dictionary_too_large")
	errMessages   error = fault.New(fault.Unprocessable, "the file has more than %d record batches: write larger ones", maxMessages).WithCode(codeDamaged)
)

func openArrowFile(ctx context.Context, src Source, o Options) (*arrowFile, error) {
	random, ok := src.(Random)
	if !ok {
		return nil, fault.New(fault.Internal, "the source of an Arrow file cannot be read at any place")
	}
	raw, size, err := random.File(ctx)
	if err != nil {
		return nil, err
	}
	f := &arrowFile{raw: raw, size: size, ratio: o.Inflation.withDefaults().Ratio}
	at := f.bounds()
	for err == nil {
		err = guarded(func() error {
			m, err := readMessage(raw, at, f.size)
			if err == nil {
				err = f.add(&m, at)
			}
			at = m.end
			return err
		})
	}
	switch {
	case f.fields == nil && errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case f.fields == nil || !errors.Is(err, io.EOF) && fault.CodeOf(err) != codeDamaged:
		return nil, err
	case !errors.Is(err, io.EOF):
		f.broken = err
	}
	return f, nil
}

// bounds returns where the messages begin, and finds out where they end.
func (f *arrowFile) bounds() (begin int64) {
	head, tail := make([]byte, 8), make([]byte, 4+len(arrowMagic))
	if n, _ := f.raw.ReadAt(head, 0); n < len(head) || !bytes.HasPrefix(head, []byte(arrowMagic)) {
		return 0
	}
	f.whole = true
	if n, _ := f.raw.ReadAt(tail, f.size-int64(len(tail))); n == len(tail) && bytes.HasSuffix(tail, []byte(arrowMagic)) {
		if footer := int64(binary.LittleEndian.Uint32(tail)); footer < f.size-int64(len(tail))-8 {
			f.size -= footer + int64(len(tail))
		}
	}
	return 8
}

// add notes a message.
func (f *arrowFile) add(m *arrowMessage, at int64) error {
	part := arrowPart{at: at, order: len(f.batches)}
	h := m.header
	switch {
	case len(f.batches)+len(f.dictionaries) >= maxMessages:
		return errMessages
	case m.kind == arrowSchema && f.fields == nil:
		return f.schema(&h, m.version)
	case f.fields == nil:
		return errors.New("the first message has no schema")
	case m.kind == arrowDictionary:
		part.id = h.int64(4)
		f.dictionaries = append(f.dictionaries, part)
	case m.kind == arrowBatch:
		part.rows = h.int64(4)
		if n := len(f.batches); n > 0 {
			part.first = f.batches[n-1].first + f.batches[n-1].rows
		}
		if part.rows < 0 || part.rows > 1<<40 {
			return errors.New("a record batch has an impossible number of rows")
		}
		f.batches = append(f.batches, part)
	}
	return nil
}

func (f *arrowFile) schema(t *fbTable, version int16) error {
	if t.GetInt16Slot(4, 0) != 0 {
		return fault.New(fault.Unprocessable, "the file is big-endian, which cannot be read").WithCode(codeDamaged)
	}
	begin, n := t.vector(6)
	if n > table.MaxColumns {
		return fault.New(fault.Unprocessable, "the file has %d columns, more than %d", n, table.MaxColumns).WithCode("file_too_wide")
	}
	const current = 4 // V5: before it unions had another layout
	fields, budget := make([]arrowField, n), newFieldBudget()
	for i := range fields {
		one := fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(begin + flatbuffers.UOffsetT(4*i))}}
		var err error
		if fields[i], err = budget.field(&one, 0); err != nil {
			return err
		}
		if version < current && fields[i].is(arrowUnion) {
			return fault.New(fault.Unprocessable, "the column %q is a union in an old version of the format: leave it out", fault.Clip(fields[i].name, 80)).WithCode("column_type")
		}
	}
	f.fields = fields
	return nil
}

// field returns a column's field, which can be read.
func (f *arrowFile) field(name string) (*arrowField, error) {
	i := slices.IndexFunc(f.fields, func(f arrowField) bool { return f.name == name })
	switch {
	case i < 0:
		return nil, fault.New(fault.Unprocessable, "the file has no column %q", fault.Clip(name, 80)).WithCode("columns_missing")
	case !f.fields[i].readable(true):
		return nil, fault.New(fault.Unprocessable, "the column %q is %s, which cannot be read: write it as numbers, texts or lists of them", fault.Clip(name, 80), f.fields[i].of()).WithCode("column_type")
	}
	return &f.fields[i], nil
}

// first returns the number of a field's first buffer in a batch whose views have so many.
func (f *arrowFile) first(field *arrowField, views []int64) (at int) {
	for i := range f.fields {
		if &f.fields[i] == field {
			break
		}
		at += f.fields[i].count(&views)
	}
	return at
}

// opener returns what opens the buffers of a batch, or of a dictionary.
func (f *arrowFile) opener(p *arrowPart, wanted int) (o *arrowOpener, rows int64, err error) {
	m, err := readMessage(f.raw, p.at, f.size)
	if err != nil {
		return nil, 0, short(err)
	}
	h := m.header
	if m.kind == arrowDictionary {
		h, _ = m.header.table(6)
	}
	o = &arrowOpener{raw: f.raw, body: m.body, length: m.end - m.body, buffers: h.pairs(8), codec: -1, ratio: f.ratio}
	begin, n := h.vector(12)
	for i := range n {
		o.views = append(o.views, int64(binary.LittleEndian.Uint64(h.Bytes[begin+flatbuffers.UOffsetT(8*i):])))
	}
	o.ahead = min(max(arrowHeld/max(wanted, 1), 4<<10), 256<<10)
	if c, is := h.table(10); is {
		if o.codec = c.int8(4); o.codec != 0 && o.codec != 1 || c.int8(6) != 0 {
			return nil, 0, fault.New(fault.Unprocessable, "the file is compressed in a way that is not known").WithCode(codeDamaged)
		}
	}
	return o, h.int64(4), nil
}

// dictionary returns the values of a dictionary as they are for a batch.
func (f *arrowFile) dictionary(field *arrowField, batch int, room int64) (values []parquet.Value, err error) {
	for i := range f.dictionaries {
		d := &f.dictionaries[i]
		if d.id != *field.dictionary || d.order > batch && !f.whole {
			continue
		}
		m, err := readMessage(f.raw, d.at, f.size)
		if err != nil {
			return nil, short(err)
		}
		if !m.header.bool(8) { // it replaces those before
			values = values[:0]
		}
		o, rows, err := f.opener(d, 3)
		if err != nil {
			return nil, err
		}
		more, size, err := o.dictionary(field.values, rows, values, room)
		if err != nil {
			return nil, err
		}
		values, room = more, room-size
	}
	return values, nil
}

func inspectArrow(ctx context.Context, src Source, f File, s *Spec, o Options) (_ File, err error) {
	err = guarded(func() error { f, err = describeArrow(ctx, src, f, s, o); return err })
	return f, unended(err)
}

// unended says that a file which ends where it should not is damaged.
func unended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(io.ErrUnexpectedEOF)
	}
	return err
}

func describeArrow(ctx context.Context, src Source, f File, s *Spec, o Options) (File, error) {
	file, err := openArrowFile(ctx, src, o)
	if err != nil {
		return f, err
	}
	if !slices.ContainsFunc(file.batches, func(p arrowPart) bool { return p.rows > 0 }) {
		return f, fault.New(fault.Unprocessable, "the file has no rows").WithCode("file_empty")
	}
	f.Columns = nil
	for i := range file.fields {
		f.Columns = append(f.Columns, file.fields[i].name)
	}
	if n := len(file.batches); file.broken == nil {
		f.Rows = file.batches[n-1].first + file.batches[n-1].rows
	}
	if err := f.lacks(s); err != nil {
		return f, err
	}
	for _, name := range s.columns() {
		field, err := file.field(name)
		if err == nil && field.lists() {
			err = s.onlyInput(name)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// arrowReader reads Arrow IPC by columns, row after row: however large its record
// batches are, it holds some bytes of each buffer. A position's offset is the row.
type arrowReader struct {
	typedRows
	file  *arrowFile
	names []string
	at    Position

	open  []*arrowColumn // of the batch; nil: none is
	batch int
	next  int64 // row of the file that they are at
}

func openArrow(ctx context.Context, src Source, s *Spec, at Position, o Options) (Reader, error) {
	r := &arrowReader{typedRows: newTypedRows(s, o), names: s.columns(), at: at}
	err := guarded(func() (err error) { r.file, err = openArrowFile(ctx, src, o); return err })
	if err != nil {
		return nil, unended(err)
	}
	r.columns = make([]*cells, len(r.names))
	return r, nil
}

// Position implements Reader.
func (r *arrowReader) Position() Position { return r.at }

// Forward implements Reader.
func (r *arrowReader) Forward(to Position) error { r.at = to; return nil }

// Close implements Reader.
func (r *arrowReader) Close() error {
	for _, c := range r.open {
		c.close()
	}
	r.open = nil
	return nil
}

// Read implements Reader. A chunk is of one record batch.
func (r *arrowReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, table.String)
	end := false
	err := guarded(func() (err error) { end, err = r.read(c, l); return err })
	if end {
		return io.EOF
	}
	if err != nil {
		_ = r.Close() // the columns may be at different rows
	}
	return unended(err)
}

func (r *arrowReader) read(c *Chunk, l Limit) (end bool, err error) {
	first := r.at.Row
	batch := slices.IndexFunc(r.file.batches, func(p arrowPart) bool { return first < p.first+p.rows })
	if batch < 0 {
		return r.file.broken == nil, r.file.broken
	}
	if err := r.seek(batch, first); err != nil {
		return false, err
	}
	p := &r.file.batches[batch]
	rows := min(int64(l.Rows), p.first+p.rows-first)
	for size := int64(0); int64(c.Rows) < rows && (c.Rows == 0 || size < l.Bytes); {
		row := int64(0)
		for _, column := range r.open {
			if err := column.read(r.most - row); err != nil {
				return false, err
			}
			row += column.size
		}
		size += row
		r.add(c, row > r.most)
		r.next++
		r.at.Row++
		r.at.Offset = r.at.Row
	}
	return false, nil
}

// seek opens the columns of a batch at a row. Where that follows the last, they stay
// open.
func (r *arrowReader) seek(batch int, row int64) error {
	if r.open != nil && r.batch == batch && r.next == row {
		return nil
	}
	_ = r.Close()
	p := &r.file.batches[batch]
	o, _, err := r.file.opener(p, 3*len(r.names))
	if err != nil {
		return err
	}
	room := int64(maxDictionaries)
	for i, name := range r.names {
		field, err := r.file.field(name)
		if err != nil {
			return err
		}
		c, err := o.column(field, r.file.first(field, o.views), row-p.first)
		if err != nil {
			return err
		}
		r.open = append(r.open, c)
		if room, err = r.words(c, batch, room); err != nil {
			return err
		}
		r.columns[i] = &c.cells
	}
	r.batch, r.next = batch, row
	return nil
}

// words gives a column its dictionary, or that of its lists.
func (r *arrowReader) words(c *arrowColumn, batch int, room int64) (left int64, err error) {
	for ; c.child != nil; c = c.child {
	}
	if c.field.dictionary == nil {
		return room, nil
	}
	if c.words, err = r.file.dictionary(c.field, batch, room); err != nil {
		return room, err
	}
	for _, v := range c.words {
		room -= 24 + int64(len(textOf(v)))
	}
	return room, nil
}

// textOf is the text that a value is, if it is one.
func textOf(v parquet.Value) []byte {
	if v.IsNull() || v.Kind() != parquet.ByteArray {
		return nil
	}
	return v.ByteArray()
}
