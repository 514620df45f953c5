package ingest

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"sluice/internal/platform/fault"
)

// arrowBuffer reads a buffer of a record batch from its beginning to its end.
type arrowBuffer struct {
	*bufio.Reader
	free func()
	bits byte  // of the last byte, those that are left
	bit  int64 // that comes next
}

func (b *arrowBuffer) close() {
	if b != nil && b.free != nil {
		b.free()
	}
}

// skip passes over n bytes.
func (b *arrowBuffer) skip(n int64) error {
	for n > 0 {
		step := min(n, 1<<30)
		if _, err := b.Discard(int(step)); err != nil {
			return short(err)
		}
		n -= step
	}
	return nil
}

// skipBits passes over n bits, from the first on.
func (b *arrowBuffer) skipBits(n int64) error {
	if err := b.skip(n / 8); err != nil {
		return err
	}
	b.bit = n - n%8
	for range n % 8 {
		if _, err := b.nextBit(); err != nil {
			return err
		}
	}
	return nil
}

func (b *arrowBuffer) nextBit() (bool, error) {
	if b.bit%8 == 0 {
		c, err := b.ReadByte()
		if err != nil {
			return false, short(err)
		}
		b.bits = c
	}
	set := b.bits>>(b.bit%8)&1 != 0
	b.bit++
	return set, nil
}

// number reads a number of some bits, as it is in memory.
func (b *arrowBuffer) number(bits int) (uint64, error) {
	p, err := b.Peek(bits / 8)
	if err != nil {
		return 0, short(err)
	}
	n := uint64(0)
	for i, c := range p {
		n |= uint64(c) << (8 * i)
	}
	_, err = b.Discard(len(p))
	return n, err
}

// short is the error of a buffer that ends before its values.
func short(err error) error {
	if err == io.EOF { //nolint:errorlint // as readers say it
		return io.ErrUnexpectedEOF
	}
	return err
}

// What is held of the buffers of a batch, in bytes.
const (
	arrowHeld   = 8 << 20   // read ahead, of all buffers together
	arrowWindow = 128 << 20 // to decompress them
	arrowDecode = 4 << 20   // of which one takes as much at most
)

// arrowOpener opens the buffers of one batch.
type arrowOpener struct {
	raw     io.ReaderAt
	body    int64
	length  int64
	buffers [][2]int64
	codec   int8 // -1: the buffers are not compressed
	ahead   int  // bytes to read at a time
	window  int64
	ratio   int64   // of what is decompressed to what it was
	views   []int64 // how many buffers each field of views has beside its own
}

// count returns how many buffers a field has, and its children, and takes the counts of
// its views.
func (f *arrowField) count(views *[]int64) int {
	n := f.buffers
	if f.views() {
		n += int((*views)[0])
		*views = (*views)[1:]
	}
	for i := range f.children {
		n += f.children[i].count(views)
	}
	return n
}

// errWindow is said of compressed batches that would take too much memory.
var errWindow error = fault.New(fault.Unprocessable, "the columns of a record batch take more than %d bytes to decompress: write batches of fewer rows, or without compression", arrowWindow).WithCode("file_batch_too_large")

// open opens a buffer; nil for one without content. It begins at an offset, if it is
// not compressed, and says at which it does.
func (o *arrowOpener) open(i int, offset int64) (b *arrowBuffer, at int64, err error) {
	if i >= len(o.buffers) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	begin, n := o.buffers[i][0], o.buffers[i][1]
	if begin < 0 || n < 0 || begin > o.length || n > o.length-begin {
		return nil, 0, io.ErrUnexpectedEOF
	}
	if n == 0 {
		return nil, 0, nil
	}
	section, ahead := io.NewSectionReader(o.raw, o.body+begin, n), int(min(int64(o.ahead), n))
	if o.codec < 0 {
		if offset > n {
			return nil, 0, io.ErrUnexpectedEOF
		}
		_, _ = section.Seek(offset, io.SeekStart)
		return &arrowBuffer{Reader: bufio.NewReaderSize(section, ahead)}, offset, nil
	}
	var prefix [8]byte
	if _, err := io.ReadFull(section, prefix[:]); err != nil {
		return nil, 0, short(err)
	}
	plain := int64(binary.LittleEndian.Uint64(prefix[:]))
	if plain == 0 {
		return nil, 0, nil
	}
	packed := bufio.NewReaderSize(section, ahead)
	if plain < 0 {
		return &arrowBuffer{Reader: packed}, 0, nil
	}
	if plain > free && plain/n > o.ratio {
		return nil, 0, fault.New(fault.Unprocessable, "the file inflates to more than %d times its size", o.ratio).WithCode("file_inflates")
	}
	if o.window += min(plain, arrowDecode) + int64(o.ahead); o.window > arrowWindow {
		return nil, 0, errWindow
	}
	b = &arrowBuffer{}
	var r io.Reader
	if o.codec == 0 {
		r = lz4.NewReader(packed)
	} else {
		z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(2*arrowDecode))
		if err != nil {
			return nil, 0, err
		}
		r, b.free = z, z.Close
	}
	b.Reader = bufio.NewReaderSize(io.LimitReader(r, plain), int(min(int64(o.ahead), plain)))
	return b, 0, nil
}
