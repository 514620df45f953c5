package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// arrowMagic begins and ends a file of Arrow IPC; a stream has none.
const arrowMagic = "ARROW1"

// arrowFile is what the messages of a file or a stream say, without their bodies.
type arrowFile struct {
	raw    io.ReaderAt
	size   int64
	ratio  int64 // see Inflation
	whole  bool  // it is a file: dictionaries may be behind those who use them
	fields []arrowField

	batches      []arrowPart
	dictionaries map[int64][]arrowPart // by the number that fields have for them
	messages     int
	broken       error // what is behind the batches; nil: nothing
}

// arrowPart is a message with a body, by where it begins.
type arrowPart struct {
	at    int64
	first int64 // row, of those of all batches
	rows  int64
	order int // batches before it
	since int // of a dictionary, the one of the same number that it begins with: others are behind it
}

// last is the row behind those of a batch.
func (p *arrowPart) last() int64 { return p.first + p.rows }

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
	err = f.read(&readAhead{r: raw, size: size, step: 64 << 10})
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

// add notes a message.
func (f *arrowFile) add(m *arrowMessage, at int64) error {
	part := arrowPart{at: at, order: len(f.batches)}
	h := m.header
	switch {
	case f.messages >= maxMessages:
		return errMessages
	case m.kind == arrowSchema && f.fields == nil:
		return f.schema(&h, m.version)
	case f.fields == nil:
		return errors.New("the first message has no schema")
	case m.kind == arrowDictionary:
		f.messages++
		return f.dictionary(h.int64(4), part, h.bool(8))
	case m.kind == arrowBatch:
		part.first, part.rows = f.rows(), h.int64(4)
		if part.rows < 0 || part.rows > 1<<40 {
			return errors.New("a record batch has an impossible number of rows")
		}
		f.messages++
		f.batches = append(f.batches, part)
	}
	return nil
}

// errReplaced is said of files only: the format has no order of dictionaries and batches there.
var errReplaced = errors.New("a dictionary replaces another, which only a stream's can")

// dictionary notes a dictionary, which goes on where those before it with the same number
// end, or replaces them.
func (f *arrowFile) dictionary(id int64, part arrowPart, goesOn bool) error {
	before := f.dictionaries[id]
	switch n := len(before); {
	case goesOn && n > 0:
		part.since = before[n-1].since
	case n > 0 && f.whole:
		return errReplaced
	default:
		part.since = n
	}
	if f.dictionaries == nil {
		f.dictionaries = map[int64][]arrowPart{}
	}
	f.dictionaries[id] = append(before, part)
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

// first returns the place of a field's first buffer in a batch whose views have so many.
func (f *arrowFile) first(field *arrowField, views []int64) (at arrowPlace) {
	left := views
	for i := range f.fields {
		if &f.fields[i] == field {
			break
		}
		at.buffer += f.fields[i].count(&left)
	}
	at.view = len(views) - len(left)
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
		if file.broken != nil {
			return f, file.broken
		}
		return f, fault.New(fault.Unprocessable, "the file has no rows").WithCode("file_empty")
	}
	f.Columns = nil
	for i := range file.fields {
		f.Columns = append(f.Columns, file.fields[i].name)
	}
	if file.broken == nil {
		f.Rows = file.rows()
	}
	if err := f.lacks(s); err != nil {
		return f, err
	}
	for _, name := range s.columns() {
		field, err := file.field(name)
		if err == nil && field.lists() {
			err = s.onlyInput(name)
		}
		if err == nil {
			err = s.fits(name, &field.leaf().meaning)
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

	words map[int64]*arrowWords
	open  []*arrowColumn // of the batch; nil: none is
	batch int
	next  int64 // row of the file that they are at
}

func openArrow(ctx context.Context, src Source, s *Spec, at Position, o Options) (Reader, error) {
	r := &arrowReader{typedRows: newTypedRows(s, o), names: s.columns(), at: at, words: map[int64]*arrowWords{}}
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

// Read implements Reader. Where a batch is damaged, its rows from there on are bad, as
// far as the chunk goes; what is behind the last batch that can be found is one bad row.
func (r *arrowReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, table.String)
	for size := int64(0); ; {
		err := unended(guarded(func() error { return r.read(c, l, &size) }))
		if err != nil {
			_ = r.Close() // the columns may be at different rows
		}
		batch := r.file.at(r.at.Row)
		switch {
		case err != nil && (fault.CodeOf(err) != codeDamaged || batch == len(r.file.batches)):
			return err
		case err != nil:
			wrong := lost(err)
			for end := r.file.batches[batch].last(); r.at.Row < end && c.Rows < l.Rows; r.at.Row++ {
				r.lose(c, wrong)
			}
			continue
		case c.Rows < l.Rows && batch == len(r.file.batches) && r.at.Row == r.file.rows():
			if wrong := rest(r.file.broken, r.at.Row); wrong != nil {
				r.lose(c, wrong)
				r.at.Row++
			} else if c.Rows == 0 && r.file.broken != nil {
				return r.file.broken
			}
		}
		if r.at.Offset = r.at.Row; c.Rows == 0 {
			return io.EOF
		}
		return nil
	}
}

// rows is how many rows the batches have.
func (f *arrowFile) rows() int64 {
	if n := len(f.batches); n > 0 {
		return f.batches[n-1].last()
	}
	return 0
}

// at returns which batch a row is in; as many as there are: it is behind the last.
func (f *arrowFile) at(row int64) int {
	batch, _ := slices.BinarySearchFunc(f.batches, row, func(p arrowPart, row int64) int {
		if p.last() <= row {
			return -1
		}
		return 1
	})
	return batch
}

func (r *arrowReader) read(c *Chunk, l Limit, size *int64) error {
	batch := r.file.at(r.at.Row)
	for c.Rows < l.Rows && (c.Rows == 0 || *size < l.Bytes) {
		for batch < len(r.file.batches) && r.file.batches[batch].last() <= r.at.Row {
			batch++
		}
		if batch == len(r.file.batches) {
			return nil
		}
		if err := r.seek(batch, r.at.Row); err != nil {
			return err
		}
		n, err := r.row()
		if err != nil {
			return err
		}
		*size += n
		r.add(c, n > r.most)
		r.pace.took(n)
		r.next++
		r.at.Row++
	}
	return nil
}

// row reads the next row of the batch, and returns the bytes that it takes.
func (r *arrowReader) row() (size int64, err error) {
	for _, column := range r.open {
		if err := column.read(r.most - size); err != nil {
			return size, err
		}
		size += column.size
	}
	return size, nil
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
		if err := r.give(c, batch); err != nil {
			return err
		}
		r.columns[i] = &c.cells
	}
	r.batch, r.next = batch, row
	return nil
}
