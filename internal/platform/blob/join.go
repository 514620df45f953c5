package blob

import (
	"context"
	"errors"
	"io"
)

// Piece is an object that is a part of more.
type Piece struct {
	Key    string
	Bytes  int64
	SHA256 string // hexadecimal
}

// Join reads objects one after the other as if they were one, from an offset on. Of each that
// is read whole the digest is checked. Reads end with ctx.
func Join(ctx context.Context, from Reader, pieces []Piece, offset int64) io.ReadCloser {
	for len(pieces) > 0 && offset >= pieces[0].Bytes {
		offset -= pieces[0].Bytes
		pieces = pieces[1:]
	}
	return &joined{ctx: ctx, from: from, pieces: pieces, offset: offset}
}

type joined struct {
	ctx    context.Context //nolint:containedctx // of whoever reads
	from   Reader
	pieces []Piece
	offset int64 // in the first
	body   io.ReadCloser
	now    io.Reader // body, verified
}

// Read implements io.Reader.
func (j *joined) Read(p []byte) (int, error) {
	for {
		if j.now == nil {
			if len(j.pieces) == 0 {
				return 0, io.EOF
			}
			if err := j.next(); err != nil {
				return 0, err
			}
		}
		n, err := j.now.Read(p)
		if errors.Is(err, io.EOF) {
			err = j.Close()
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (j *joined) next() error {
	piece := j.pieces[0]
	o, err := j.from.Get(j.ctx, piece.Key, GetOptions{Range: Range{Offset: j.offset}})
	if err != nil {
		return err
	}
	o.Info.SHA256 = piece.SHA256 // the store's own may have rotted with the object
	j.body, j.now = o.Body, o.Verified()
	j.pieces, j.offset = j.pieces[1:], 0
	return nil
}

// Close implements io.Closer.
func (j *joined) Close() error {
	if j.body == nil {
		return nil
	}
	err := j.body.Close()
	j.body, j.now = nil, nil
	return err
}
