package blob

import (
	"io"
	"sync"
)

// The room of a pipe.
const (
	pipeBlock  = 128 << 10 // bytes
	pipeBlocks = 4
)

// Pipe connects who makes an object's content with Put, which takes it, as io.Pipe does,
// but with room for some blocks between the two, so that neither waits for the other
// at each write. Each end is for one goroutine.
func Pipe() (*PipeReader, *PipeWriter) {
	p := &pipe{full: make(chan []byte, pipeBlocks), free: make(chan []byte, pipeBlocks), left: make(chan struct{})}
	return &PipeReader{pipe: p}, &PipeWriter{pipe: p}
}

type pipe struct {
	full, free chan []byte // which hold all blocks that there are
	ended      error       // what is behind the last block; written before full is closed
	left       chan struct{}
	leave      sync.Once
	why        error // of who reads no more; written before left is closed
}

// PipeWriter is the end where content is written.
type PipeWriter struct {
	*pipe
	block []byte // that is filled; nil: none is
	made  int
	over  bool
}

// Write implements io.Writer. Its error is the one that the reader was closed with; what
// was written shortly before may not have been read.
func (w *PipeWriter) Write(b []byte) (n int, err error) {
	if w.over {
		return 0, io.ErrClosedPipe
	}
	for n < len(b) {
		if w.block == nil {
			if err := w.take(); err != nil {
				return n, err
			}
		}
		k := copy(w.block[len(w.block):cap(w.block)], b[n:])
		w.block = w.block[:len(w.block)+k]
		if n += k; len(w.block) == cap(w.block) {
			w.send()
		}
	}
	return n, nil
}

// take takes a block that is free.
func (w *PipeWriter) take() error {
	select {
	case <-w.left:
		return w.why
	case w.block = <-w.free:
		return nil
	default:
	}
	if w.made < pipeBlocks {
		w.made++
		w.block = make([]byte, 0, pipeBlock)
		return nil
	}
	select {
	case <-w.left:
		return w.why
	case w.block = <-w.free:
		return nil
	}
}

func (w *PipeWriter) send() {
	w.full <- w.block // there is room for all of them
	w.block = nil
}

// CloseWithError ends the content: the reader gets err behind what was written, io.EOF
// for nil. Only the first call counts. It returns nil.
func (w *PipeWriter) CloseWithError(err error) error {
	if w.over {
		return nil
	}
	w.over = true
	if len(w.block) > 0 {
		w.send()
	}
	if w.ended = err; err == nil {
		w.ended = io.EOF
	}
	close(w.full)
	return nil
}

// PipeReader is the end where content is read.
type PipeReader struct {
	*pipe
	block []byte // that is read; nil: none is
	at    int
}

// Read implements io.Reader.
func (r *PipeReader) Read(p []byte) (int, error) {
	if r.block == nil {
		block, more := <-r.full
		if !more {
			return 0, r.ended
		}
		r.block, r.at = block, 0
	}
	n := copy(p, r.block[r.at:])
	if r.at += n; r.at == len(r.block) {
		r.free <- r.block[:0]
		r.block = nil
	}
	return n, nil
}

// CloseWithError has writes fail with err, io.ErrClosedPipe for nil. Only the first call counts. It returns nil.
func (r *PipeReader) CloseWithError(err error) error {
	r.leave.Do(func() {
		if r.why = err; err == nil {
			r.why = io.ErrClosedPipe
		}
		close(r.left)
	})
	return nil
}
