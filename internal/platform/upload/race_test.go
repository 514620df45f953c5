package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// What is completed between the sweep's list and its turn is kept.
func TestSweepLeavesWhatWasCompleted(t *testing.T) {
	b := newBed(t, Config{})
	first := b.create(t, Create{Length: -1})
	if _, err := b.Append(b.ctx, first, Append{Length: 1, Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Second)
	second := b.create(t, Create{Length: -1})
	inside, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		end := readerFunc(func([]byte) (int, error) { close(inside); <-goOn; return 0, io.EOF })
		_, err := b.Append(b.ctx, second, Append{Length: -1, Last: true, Body: io.MultiReader(strings.NewReader("abc"), end)})
		done <- err
	}()
	<-inside
	b.now = b.now.Add(b.cfg.Expiry + time.Second)
	b.dies.deletes = func() { // the first one's content: the second is listed, and its turn has not come
		b.dies.deletes = nil
		close(goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, err := b.Sweep(b.ctx, "acme"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := b.read(t, second); string(got) != "abc" {
		t.Errorf("%q", got)
	}
}

// To complete takes as long as the content is large. Meanwhile the writer has the
// upload; where that is not enough, another may go on at once.
func TestSlowComplete(t *testing.T) {
	b := newBed(t, Config{})
	data := content(2 * pieceSize)
	complete := func(ctx context.Context, id ID) (*Upload, error) {
		return b.Append(ctx, id, Append{Length: int64(len(data)), Last: true, Body: bytes.NewReader(data)})
	}
	synctest.Test(t, func(t *testing.T) {
		b.clock = time.Now
		id := b.create(t, Create{Length: -1})
		b.dies.completes = func(ctx context.Context) error {
			if !pause.For(ctx, settleTime+time.Second) {
				return ctx.Err()
			}
			synctest.Wait()
			if _, err := b.Append(b.ctx, id, Append{Offset: int64(len(data)), Last: true, Body: strings.NewReader("")}); fault.CodeOf(err) != "upload_busy" {
				t.Errorf("beside one that completes: %v", err)
			}
			return nil
		}
		if u, err := complete(b.ctx, id); err != nil || u.State != Complete {
			t.Errorf("a slow one: %+v, %v", u, err)
		}
		id = b.create(t, Create{Length: -1})
		gone, leave := context.WithCancel(b.ctx)
		b.dies.completes = func(ctx context.Context) error { leave(); <-ctx.Done(); return ctx.Err() }
		if _, err := complete(gone, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that hangs, of a client that left: %v", err)
		}
		b.dies.completes = nil
		if u, err := b.Append(b.ctx, id, Append{Offset: int64(len(data)), Last: true, Body: strings.NewReader("")}); err != nil || u.State != Complete {
			t.Errorf("after one that hung: %+v, %v", u, err)
		}
	})
}
