package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// piece is how much an append carries: small enough for a server's limit, and large
// enough that its fsync costs nothing. Bytes.
const piece = 8 << 20

// patience is how often an append that fails is tried again without any progress.
const patience = 8

// Upload is an upload as the server has it.
type Upload struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Mode   string `json:"mode"`   // append or parts
	Length int64  `json:"length"` // bytes in all
	Offset int64  `json:"offset"` // that the server has
	SHA256 string `json:"sha256"`
	URLs   struct {
		Self string `json:"self"`
	} `json:"urls"`
}

// File is what is uploaded.
type File struct {
	Name, Type string
	Content    io.ReaderAt
	Size       int64
}

// Digest returns the SHA-256 of the content in hexadecimal.
func (f *File) Digest() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f.Content, 0, f.Size)); err != nil {
		return "", fault.Wrap(fault.Invalid, err, "%s cannot be read", f.Name)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Upload sends a file, and goes on where it broke off for as long as there is
// progress. The server holds it to its digest. done is told how many bytes the
// server has.
func (c *Client) Upload(ctx context.Context, f *File, done func(bytes int64)) (*Upload, error) {
	sum, err := f.Digest()
	if err != nil {
		return nil, err
	}
	body := map[string]any{"name": f.Name, "content_type": f.Type, "length": f.Size, "sha256": sum}
	if f.Size >= inParts {
		body["mode"] = "parts"
	}
	a, err := c.Call(ctx, Request{Method: http.MethodPost, Path: "/v1/uploads", Body: body})
	if err != nil {
		return nil, err
	}
	var u Upload
	if err := a.Decode(&u); err != nil {
		return nil, err
	}
	return c.Resume(ctx, f, u.ID, done)
}

// Resume goes on with an upload that was begun with the same file.
func (c *Client) Resume(ctx context.Context, f *File, id string, done func(bytes int64)) (*Upload, error) {
	var u Upload
	for failures := 0; ; {
		if err := c.Get(ctx, "/v1/uploads/"+id, &u); err != nil {
			return nil, err
		}
		if u.State != "open" {
			return &u, nil
		}
		send := c.pieces
		if u.Mode == "parts" {
			send = c.parts
		}
		if u.Offset > f.Size || u.Mode == "parts" && u.Length != f.Size {
			return &u, final{fault.New(fault.Invalid, "the upload %s has or will have %d bytes, and the file %d: it is another file", u.ID, max(u.Offset, u.Length), f.Size)}
		}
		before := u.Offset
		complete, err := send(ctx, f, &u, done)
		switch {
		case complete:
			return &u, nil
		case ctx.Err() != nil:
			return &u, fault.Of(ctx.Err())
		case u.Offset > before:
			failures = 0
		}
		if failures++; err != nil && (failures > patience || !Passing(err)) {
			return &u, err
		}
		pause.For(ctx, rests(failures))
	}
}

// rests is the wait before a try behind so many failures.
func rests(failures int) time.Duration {
	return min(time.Second<<min(max(failures-1, 0), 4), 10*time.Second)
}

// Passing reports whether what has failed may succeed when it is tried again.
func Passing(err error) bool {
	if _, ok := errors.AsType[final](err); ok {
		return false
	}
	switch s := StatusOf(err); s {
	case 0, http.StatusConflict, http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	default:
		return s >= http.StatusInternalServerError
	}
}

// pieces sends one piece after another, until one fails or the upload is complete.
func (c *Client) pieces(ctx context.Context, f *File, u *Upload, done func(int64)) (complete bool, err error) {
	for {
		done(u.Offset)
		length := min(f.Size-u.Offset, piece)
		last := u.Offset+length >= f.Size
		if err := c.append(ctx, f, u, length, last); err != nil {
			return false, err
		}
		if last {
			done(f.Size)
			return true, nil
		}
		u.Offset += length
	}
}

func (c *Client) append(ctx context.Context, f *File, u *Upload, length int64, last bool) error {
	req, err := c.request(ctx, Request{Method: http.MethodPatch, Path: "/v1/uploads/" + u.ID})
	if err != nil {
		return err
	}
	req.Body, req.ContentLength = io.NopCloser(io.NewSectionReader(f.Content, u.Offset, length)), length
	req.Header.Set("Content-Type", "application/partial-upload")
	req.Header.Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	complete := "?0"
	if last {
		complete = "?1"
	}
	req.Header.Set("Upload-Complete", complete)
	body := &watched{ReadCloser: req.Body}
	req, stop := body.over(req)
	defer stop()
	resp, err := c.open.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	a, err := answer(resp)
	if err == nil && last {
		err = a.Decode(u)
	}
	return err
}
