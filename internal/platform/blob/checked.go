package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// Checked reads a body on its way into a store: it counts and hashes, stops
// when the context ends, and turns the end of a body that is not what was said
// into an error. An adapter that publishes only what was read to io.EOF is
// thereby atomic.
type Checked struct {
	body  io.Reader
	want  PartOptions
	ended func() error
	hash  hash.Hash
	size  int64
}

// NewChecked returns a reader of body, which must be what want says.
func NewChecked(ctx context.Context, body io.Reader, want PartOptions) *Checked {
	return &Checked{body: body, want: want, ended: ctx.Err, hash: sha256.New()}
}

// Read implements io.Reader. It never passes on more than the expected size.
func (c *Checked) Read(p []byte) (int, error) {
	if err := c.ended(); err != nil {
		return 0, err
	}
	n, err := c.body.Read(p)
	c.size += int64(n)
	if c.want.Size > 0 && c.size > c.want.Size {
		return 0, wrongSize(c.want.Size, c.want.Size, true)
	}
	c.hash.Write(p[:n])
	if err == io.EOF { //nolint:errorlint // a wrapped EOF is a failure of the body, not its end
		err = c.end()
	}
	return n, err
}

// end returns io.EOF, or what was wrong with the body.
func (c *Checked) end() error {
	if err := c.ended(); err != nil {
		return err
	}
	if c.want.Size > 0 && c.size != c.want.Size {
		return wrongSize(c.want.Size, c.size, false)
	}
	if sum := c.SHA256(); c.want.SHA256 != "" && sum != c.want.SHA256 {
		return wrongSum(c.want.SHA256, sum)
	}
	return io.EOF
}

// Size returns how many bytes were read so far.
func (c *Checked) Size() int64 { return c.size }

// SHA256 returns the digest of what was read so far.
func (c *Checked) SHA256() string { return hex.EncodeToString(c.hash.Sum(nil)) }
