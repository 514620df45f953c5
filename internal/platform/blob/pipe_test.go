package blob

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// What is read is what was written, in whatever pieces, and then the writer's error.
func TestPipe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := make([]byte, rapid.IntRange(0, 3*pipeBlocks*pipeBlock).Draw(t, "size"))
		_, _ = rand.NewChaCha8([32]byte{}).Read(content)
		write := rapid.SampledFrom([]int{700, pipeBlock - 1, pipeBlock, 3 * pipeBlock, 6 * pipeBlocks * pipeBlock}).Draw(t, "written at a time")
		read := rapid.SampledFrom([]int{900, pipeBlock, 2 * pipeBlock}).Draw(t, "read at a time")
		end := rapid.SampledFrom([]error{nil, errors.New("broken")}).Draw(t, "end")
		r, w := Pipe()
		go func() {
			for rest := content; len(rest) > 0; {
				n, err := w.Write(rest[:min(write, len(rest))])
				if err != nil {
					w.CloseWithError(err)
					return
				}
				rest = rest[n:]
			}
			w.CloseWithError(end)
			w.CloseWithError(errors.New("too late"))
		}()
		var got bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, read))
		if !errors.Is(err, end) || !bytes.Equal(got.Bytes(), content) {
			t.Fatalf("%d bytes and %v, want %d and %v", got.Len(), err, len(content), end)
		}
	})
}

// A writer goes as far ahead as there is room, and no further.
func TestPipeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := Pipe()
		written := 0
		go func() {
			for range 4 * pipeBlocks {
				n, _ := w.Write(make([]byte, pipeBlock))
				written += n
			}
			w.CloseWithError(nil)
		}()
		synctest.Wait()
		if written != pipeBlocks*pipeBlock {
			t.Fatalf("%d bytes were written ahead, want %d", written, pipeBlocks*pipeBlock)
		}
		n, err := io.Copy(io.Discard, r)
		if n != 4*pipeBlocks*pipeBlock || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	})
}

// Who writes learns that nobody reads any more, also while it waits for room.
func TestPipeIsLeft(t *testing.T) {
	for _, ahead := range []int{0, 1, pipeBlocks} {
		synctest.Test(t, func(t *testing.T) {
			r, w := Pipe()
			if _, err := w.Write(make([]byte, ahead*pipeBlock)); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			write := func() { _, err := w.Write([]byte("more")); failed <- err }
			gone := errors.New("gone")
			if ahead == pipeBlocks {
				go write()
				synctest.Wait()
			}
			r.CloseWithError(gone)
			r.CloseWithError(errors.New("too late"))
			if ahead < pipeBlocks {
				write()
			}
			if err := <-failed; !errors.Is(err, gone) {
				t.Fatalf("with %d blocks ahead: %v", ahead, err)
			}
			w.CloseWithError(nil)
			if _, err := w.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("behind the end: %v", err)
			}
		})
	}
}
