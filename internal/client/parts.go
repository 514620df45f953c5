package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"sluice/internal/platform/fault"
)

// Files of so many bytes are put in parts, so many at a time.
const (
	inParts = 32 << 20
	abreast = 4
)

// part is a part of an upload as the server describes it.
type part struct {
	Number int    `json:"number"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Kept   bool   `json:"kept"`
	URL    string `json:"url"`
}

// parts puts what the server has not of an upload, several at a time, and completes
// it. The upload's offset counts what has come by it.
func (c *Client) parts(ctx context.Context, f *File, u *Upload, done func(int64)) (complete bool, err error) {
	var mu sync.Mutex
	var there int64 // bytes that the server has
	count := func(p part, put bool) {
		mu.Lock()
		defer mu.Unlock()
		if there += p.Length; put {
			u.Offset += p.Length
		}
		done(there)
	}
	for cursor := ""; ; {
		var page struct {
			Data []part `json:"data"`
			Next string `json:"next_cursor"`
		}
		if err := c.Get(ctx, with("/v1/uploads/"+u.ID+"/parts?limit=500", "cursor", cursor), &page); err != nil {
			return false, err
		}
		putting := pool.New().WithMaxGoroutines(abreast).WithContext(ctx).WithFirstError()
		for _, p := range page.Data {
			if p.Kept {
				count(p, false)
				continue
			}
			putting.Go(func(ctx context.Context) error {
				err := c.put(ctx, f, p)
				if err == nil {
					count(p, true)
				}
				return err
			})
		}
		if err := putting.Wait(); err != nil {
			return false, err
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	a, err := c.complete(ctx, u.ID)
	if err != nil {
		return false, err
	}
	return true, a.Decode(u)
}

// complete completes an upload of parts. The server reads all of it, which may take longer than
// a request waits, and goes on without the request: as long as it is busy with that, nothing has
// failed.
func (c *Client) complete(ctx context.Context, id string) (*Answer, error) {
	for {
		a, err := c.Call(ctx, Request{Method: http.MethodPost, Path: "/v1/uploads/" + id + "/complete", Body: struct{}{}})
		p, refused := errors.AsType[*Problem](err)
		if !refused || p.Code != "upload_busy" {
			return a, err
		}
		if !c.rest(ctx, min(max(p.RetryAfter, time.Second), time.Minute)) {
			return nil, fault.Of(ctx.Err())
		}
	}
}

// put puts one part. The address is the credential: the client's own goes to no
// other host.
func (c *Client) put(ctx context.Context, f *File, p part) error {
	address := p.URL
	if strings.HasPrefix(address, "/") {
		address = c.base.String() + address
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, io.NopCloser(io.NewSectionReader(f.Content, p.Offset, p.Length)))
	if err != nil {
		return final{fault.New(fault.Internal, "the server's answer cannot be read: the address of part %d is none", p.Number)}
	}
	req.ContentLength = p.Length
	req.Header.Set("User-Agent", "sluice-client")
	body := &watched{ReadCloser: req.Body}
	req, stop := body.over(req)
	defer stop()
	resp, err := c.open.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	_, err = answer(resp)
	if s := StatusOf(err); s == http.StatusForbidden || s == http.StatusNotFound { // the address has ended: there are others
		return fault.New(fault.Unavailable, "part %d was refused: %s", p.Number, err)
	}
	return err
}
