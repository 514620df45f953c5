package ingest

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go"
)

// viewSize is the bytes of a view: a length, and then the text if it is short, or where it is.
const viewSize = 16

// view reads a text by its view; one that is too large is not read.
func (c *arrowColumn) view(row *arrowColumn, valid bool) (v parquet.Value, err error) {
	p, err := c.data.Peek(viewSize)
	if err != nil {
		return v, short(err)
	}
	view := [viewSize]byte(p)
	if _, err := c.data.Discard(viewSize); err != nil || !valid {
		return v, err
	}
	n := int64(int32(binary.LittleEndian.Uint32(view[:])))
	if n < 0 {
		return v, errors.New("a text ends before it begins")
	}
	if row.size += n; row.size > row.most {
		return v, nil
	}
	text := row.room(n)
	const inline = viewSize - 4
	if n <= inline {
		copy(text, view[4:])
		return parquet.ByteArrayValue(text), nil
	}
	buffer, at := int32(binary.LittleEndian.Uint32(view[8:])), int32(binary.LittleEndian.Uint32(view[12:]))
	return parquet.ByteArrayValue(text), c.pool.read(text, int64(buffer), int64(at))
}

// arrowPool is the buffers of a batch that the views of a field point into, in any order.
type arrowPool struct {
	o     *arrowOpener
	first int   // buffer
	count int64 // of them
	ahead *readAhead
	plain map[int64][]byte // what is in buffers that are held: compressed ones, and those whose views point to and fro
}

// read reads what is at a place of a buffer.
func (p *arrowPool) read(into []byte, buffer, at int64) error {
	if buffer < 0 || buffer >= p.count || p.first+int(buffer) >= len(p.o.buffers) || at < 0 {
		return io.ErrUnexpectedEOF
	}
	i := p.first + int(buffer)
	if _, held := p.plain[buffer]; !held && p.o.codec < 0 {
		if hold, err := p.onward(into, i, at); !hold {
			return err
		}
	}
	plain, err := p.inflated(i, buffer)
	if err == nil && at+int64(len(into)) > int64(len(plain)) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		copy(into, plain[at:])
	}
	return err
}

// onward reads what is at a place of a buffer that is not compressed, of which nothing is held as long as
// views point ever further. Those of rows that were sorted or drawn point to and fro: it would be read ahead for each
// of them, so that such a buffer is to be held, if there is room for it.
func (p *arrowPool) onward(into []byte, i int, at int64) (hold bool, err error) {
	begin, n := p.o.buffers[i][0], p.o.buffers[i][1]
	if begin < 0 || n < 0 || begin > p.o.length || n > p.o.length-begin || at+int64(len(into)) > n {
		return false, io.ErrUnexpectedEOF
	}
	if p.ahead == nil {
		p.ahead = &readAhead{r: p.o.raw, size: p.o.body + p.o.length, step: p.o.ahead}
	}
	place := p.o.body + begin + at
	switch {
	case place >= p.ahead.at:
		_, err = p.ahead.ReadAt(into, place)
	case n <= arrowWindow-p.o.window:
		return true, nil
	default:
		_, err = io.ReadFull(io.NewSectionReader(p.o.raw, place, int64(len(into))), into)
	}
	return false, short(err)
}

// inflated is what is in a buffer, which is held as long as its batch is open: views may point anywhere.
func (p *arrowPool) inflated(i int, buffer int64) ([]byte, error) {
	if plain, is := p.plain[buffer]; is {
		return plain, nil
	}
	b, _, err := p.o.open(i, 0)
	if err != nil || b == nil {
		return nil, err
	}
	defer b.close()
	room := arrowWindow - p.o.window
	plain, err := io.ReadAll(io.LimitReader(b, room+1))
	if err != nil {
		return nil, short(err)
	}
	if int64(len(plain)) > room {
		return nil, errWindow
	}
	p.o.window += int64(len(plain))
	if p.plain == nil {
		p.plain = map[int64][]byte{}
	}
	p.plain[buffer] = plain
	return plain, nil
}
