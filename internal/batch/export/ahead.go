package export

import (
	"context"

	"sluice/internal/batch/table"
)

// ahead reads a scan in a goroutine of its own, a chunk ahead of who encodes it.
type ahead struct {
	filled chan filled
	free   chan *table.Chunk
	cancel context.CancelFunc
}

// filled is a chunk of the rows that are wanted, or the error that has ended the scan.
type filled struct {
	rows *table.Chunk
	seen int64 // by the scan so far
	err  error
}

// readAhead begins to read. The scan belongs to it until stop has returned.
func readAhead(ctx context.Context, scan Scan, p *plan) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{filled: make(chan filled), free: make(chan *table.Chunk, 2), cancel: cancel}
	for range cap(a.free) {
		a.free <- table.NewChunk(p.schema)
	}
	go func() {
		defer close(a.filled)
		read := p.reader(scan)
		for rows := range a.free {
			err := read(ctx, rows)
			select {
			case a.filled <- filled{rows, scan.Seen(), err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return a
}

// reader returns what reads the wanted rows and columns of a scan.
func (p *plan) reader(scan Scan) func(context.Context, *table.Chunk) error {
	if p.whole() {
		return scan.Read
	}
	from := table.NewChunk(p.dataset.Schema)
	return func(ctx context.Context, into *table.Chunk) error {
		into.Reset()
		err := scan.Read(ctx, from)
		if err == nil {
			p.project(from, into)
		}
		return err
	}
}

// next returns the next chunk; done gives it back.
func (a *ahead) next(ctx context.Context) filled {
	f, ok := <-a.filled
	if !ok { // it ends early with ctx only
		f.err = context.Cause(ctx)
	}
	return f
}

func (a *ahead) done(f filled) { a.free <- f.rows }

// stop waits until nobody reads any more.
func (a *ahead) stop() {
	a.cancel()
	close(a.free)
	for range a.filled { // what was read, and is not wanted
	}
}
