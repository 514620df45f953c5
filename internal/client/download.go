package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// Download writes what the path has to out, and goes on where it broke off, as long
// as it is the same content by its ETag. It is checked against Repr-Digest where the
// server says one. done is told how many bytes there are, and how many there will
// be; -1 where that is not known.
func (c *Client) Download(ctx context.Context, path string, out io.Writer, done func(bytes, of int64)) error {
	d := &downloading{c: c, path: path, out: out, hash: sha256.New(), done: done}
	for failures := 0; ; {
		before := d.at
		err := d.take(ctx)
		if err == nil {
			return d.check()
		}
		if d.at > before {
			failures = 0
		}
		if failures++; ctx.Err() != nil || failures > patience || !d.began && StatusOf(err) == 0 || !Passing(err) {
			return err
		}
		pause.For(ctx, rests(failures))
	}
}

// final is an error that trying again does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

type downloading struct {
	c            *Client
	path         string
	out          io.Writer
	hash         hash.Hash
	done         func(bytes, of int64)
	at, of       int64
	etag, digest string
	began        bool // the server has answered: its address is right
}

// take reads what one connection gives, from where the last one has ended.
func (d *downloading) take(ctx context.Context) error {
	req, err := d.c.request(ctx, Request{Path: d.path})
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Encoding", "identity") // ranges and digests are of the content itself
	if d.at > 0 {
		if d.etag == "" || strings.HasPrefix(d.etag, "W/") {
			return final{fault.New(fault.Conflict, "the download broke off, and cannot go on: the server gives it no strong ETag")}
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
		req.Header.Set("If-Range", d.etag)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := d.c.open.Do(req.WithContext(ctx))
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	body := &watched{ReadCloser: resp.Body, timer: time.AfterFunc(silence, cancel)}
	defer body.timer.Stop()
	d.began = true
	switch {
	case d.at > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", d.at):
		return nil // it broke off behind the last byte
	case resp.StatusCode >= http.StatusBadRequest:
		_, err := answer(resp)
		return err
	case d.at > 0 && (resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", d.at))):
		return final{fault.New(fault.Conflict, "the content has changed while it was downloaded: begin again").WithCode("content_changed")}
	case d.at == 0:
		d.etag, d.digest, d.of = resp.Header.Get("ETag"), resp.Header.Get("Repr-Digest"), resp.ContentLength
	}
	return d.copy(body)
}

func (d *downloading) copy(from io.Reader) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := d.out.Write(buffer[:n]); err != nil {
				return final{fault.Wrap(fault.Internal, err, "the download cannot be written: %s", err)}
			}
			d.hash.Write(buffer[:n])
			d.at += int64(n)
			d.done(d.at, d.of)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return unreachable(err)
		}
	}
}

// check compares the content with the digest that the server has told (RFC 9530).
func (d *downloading) check() error {
	want, ok := strings.CutPrefix(d.digest, "sha-256=:")
	if got := base64.StdEncoding.EncodeToString(d.hash.Sum(nil)); ok && strings.TrimSuffix(want, ":") != got {
		return fault.New(fault.Internal, "the download does not have the digest that the server says: download it again")
	}
	return nil
}
