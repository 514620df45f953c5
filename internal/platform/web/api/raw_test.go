package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/download"
)

type rawIn struct {
	ID     string `path:"id" maxLength:"10"`
	Offset int64  `header:"Upload-Offset" required:"true" minimum:"0"`
}

// rawBed has an operation that reads by itself and one that writes by itself.
func rawBed(t *testing.T) *bed {
	content := bytes.Repeat([]byte(`{"a":1}`), 1000)
	return start(t, setting{more: func(_ *echo.Echo, b *bed) {
		RegisterRaw(b.api, Operation{ID: "append", Method: "PATCH", Path: "/raw/{id}", Summary: "Append", Permission: canWrite, Consumes: []string{"application/x-part"}, MaxBody: 100},
			func(_ context.Context, w http.ResponseWriter, r *http.Request, in *rawIn) error {
				if in.ID == "lost" {
					return fault.New(fault.NotFound, "nothing has that name")
				}
				n, err := io.Copy(io.Discard, r.Body)
				if err != nil {
					return err
				}
				if in.ID == "gone" {
					return fault.New(fault.NotFound, "there is no such thing")
				}
				w.Header().Set("Upload-Offset", strings.Repeat("9", int(n)))
				w.WriteHeader(http.StatusNoContent)
				return nil
			})
		RegisterRaw(b.api, Operation{ID: "download", Method: "GET", Path: "/raw/{id}/content", Summary: "Download", Permission: canRead, Stream: true},
			func(_ context.Context, w http.ResponseWriter, r *http.Request, in *struct {
				ID string `path:"id"`
			}) error {
				sum := sha256.Sum256(content)
				return download.Serve(w, r, download.Content{Size: int64(len(content)), Type: "application/json", SHA256: hex.EncodeToString(sum[:]), Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
					if in.ID == "broken" {
						return io.NopCloser(bytes.NewReader(content[:len(content)-1])), nil
					}
					return io.NopCloser(bytes.NewReader(content)), nil
				}})
			})
	}})
}

func TestRawReadsByItself(t *testing.T) {
	b := rawBed(t)
	b.unchecked = true // the validator knows no PATCH of other types
	part := []string{"Content-Type", "application/x-part", "Upload-Offset", "7"}
	if a := b.send("PATCH", "/v1/raw/a", "xyz", writer, part...); a.StatusCode != 204 || a.Header.Get("Upload-Offset") != "999" {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.text)
	}
	for name, tc := range map[string]struct {
		path, body, who string
		headers         []string
		status          int
		code            string
	}{
		"no permission": {"/v1/raw/a", "x", reader, part, 403, "permission_missing"},
		"nobody":        {"/v1/raw/a", "x", "", part, 401, "credential_missing"},
		"not there":     {"/v1/raw/gone", "x", writer, part, 404, "not_found"},
		"too large":     {"/v1/raw/a", strings.Repeat("x", 101), writer, part, 413, "body_too_large"},
		"another type":  {"/v1/raw/a", "x", writer, []string{"Content-Type", "image/png", "Upload-Offset", "1"}, 415, "unsupported_media_type"},
		"no offset":     {"/v1/raw/a", "x", writer, part[:2], 422, "validation_failed"},
	} {
		if a := b.send("PATCH", tc.path, tc.body, tc.who, tc.headers...); a.StatusCode != tc.status || a.problem(t).Code != tc.code {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
	}
}

// Whoever looks at the answer only once it has sent everything, as many clients do, sees why
// it was refused: by the API, by the operation, or by huma.
func TestRawRefusesBeforeTheBodyIsRead(t *testing.T) {
	b := rawBed(t)
	const typed, offset, known = "Content-Type: application/x-part\r\n", "Upload-Offset: 7\r\n", "Authorization: Bearer " + writer + "\r\n"
	for name, tc := range map[string]struct {
		id, headers, code string
	}{
		"nobody":       {"a", typed + offset, "credential_missing"},
		"another type": {"a", "Content-Type: image/png\r\n" + offset + known, "unsupported_media_type"},
		"no offset":    {"a", typed + known, "validation_failed"},
		"too large":    {"a", typed + offset + known, "body_too_large"},
		"not there":    {"lost", typed + offset + known, "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", b.server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const size = 1 << 20
			if _, err := fmt.Fprintf(c, "PATCH /v1/raw/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", tc.id, size, tc.headers); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := c.Write(make([]byte, size/2)); err != nil {
					t.Fatalf("the rest cannot be sent: %v", err)
				}
				time.Sleep(700 * time.Millisecond) // net/http resets what it closes half a second after the answer
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if a := (answer{resp, string(text)}); err != nil || a.problem(t).Code != tc.code || !resp.Close {
				t.Errorf("%d %s, %v, the connection is closed: %v", resp.StatusCode, text, err, resp.Close)
			}
		})
	}
}

// What is downloaded comes as it is, or not to its end.
func TestRawWritesByItself(t *testing.T) {
	b := rawBed(t)
	a := b.send("GET", "/v1/raw/a/content", "", reader, "Accept-Encoding", "gzip")
	if a.StatusCode != 200 || a.Header.Get("Content-Encoding") != "" || len(a.text) != 7000 || a.Header.Get("Content-Length") != "7000" || a.Header.Get("Request-Id") == "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := b.send("GET", "/v1/raw/a/content", "", reader, "If-None-Match", a.Header.Get("ETag")); a.StatusCode != 304 || a.text != "" {
		t.Errorf("again: %d %q", a.StatusCode, a.text)
	}
	if a := b.send("GET", "/v1/raw/a/content", "", reader, "Range", "bytes=7-13"); a.StatusCode != 206 || a.text != `{"a":1}` {
		t.Errorf("a range: %d %q", a.StatusCode, a.text)
	}
	if a := b.send("HEAD", "/v1/raw/a/content", "", reader); a.StatusCode != 200 || a.Header.Get("Content-Length") != "7000" {
		t.Errorf("head: %d %v", a.StatusCode, a.Header)
	}
	if a := b.send("GET", "/v1/raw/a/content", "", reader, "Range", "bytes=7000-"); a.StatusCode != 416 || a.problem(t).Code != "range_not_satisfiable" {
		t.Errorf("beyond: %d %s", a.StatusCode, a.text)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+b.server.Addr()+"/v1/raw/broken/content", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+reader)
	resp, err := b.client.Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("a broken download ends with %v", err)
	}
}
