package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/internal/platform/fault"
)

// shelf is a server of one upload that loses connections.
type shelf struct {
	mu       sync.Mutex
	kept     []byte
	complete bool
	cuts     int // how many appends are cut in the middle
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := func() {
		name := "open"
		if s.complete {
			name = "complete"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "upl_1", "state": name, "offset": len(s.kept)})
	}
	switch r.Method {
	case http.MethodPatch:
		at, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
		if err != nil || at != len(s.kept) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		b, _ := io.ReadAll(r.Body)
		if s.cuts > 0 {
			s.cuts--
			s.kept = append(s.kept, b[:len(b)/2]...)
			panic(http.ErrAbortHandler)
		}
		s.kept = append(s.kept, b...)
		if s.complete = r.Header.Get("Upload-Complete") == "?1"; !s.complete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		state()
	default:
		state()
	}
}

func TestUploadGoesOnWhereItBrokeOff(t *testing.T) {
	content := make([]byte, piece+piece/2)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	for _, cuts := range []int{0, 2} {
		s := &shelf{cuts: cuts}
		c := serve(t, s.ServeHTTP)
		var last int64
		u, err := c.Upload(t.Context(), &File{Name: "f", Type: "text/csv", Content: bytes.NewReader(content), Size: int64(len(content))}, func(n int64) { last = n })
		if err != nil || u.State != "complete" || !bytes.Equal(s.kept, content) || last != int64(len(content)) {
			t.Errorf("%d cuts: %+v, %v: %d bytes, told of %d", cuts, u, err, len(s.kept), last)
		}
	}
	empty := &shelf{}
	if u, err := serve(t, empty.ServeHTTP).Upload(t.Context(), &File{Content: strings.NewReader("")}, func(int64) {}); err != nil || u.State != "complete" {
		t.Errorf("an empty file: %v, %v", u, err)
	}
}

func TestResumeWithAnotherFile(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"upl_1","state":"open","offset":9}`)
	})
	if _, err := c.Resume(t.Context(), &File{Content: strings.NewReader("x"), Size: 1}, "upl_1", func(int64) {}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestRefusedUploadIsNotRepeated(t *testing.T) {
	appends := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			appends++
			w.WriteHeader(422)
			return
		}
		fmt.Fprint(w, `{"id":"upl_1","state":"open"}`)
	})
	_, err := c.Upload(t.Context(), &File{Content: strings.NewReader("x"), Size: 1}, func(int64) {})
	if StatusOf(err) != 422 || appends != 1 {
		t.Errorf("%d appends, %v", appends, err)
	}
}

func TestDownloads(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 1000))
	sum := sha256.Sum256(content)
	for name, tc := range map[string]struct {
		etag, digest string
		changes      bool
		code         string
	}{
		"cut":      {etag: `"a"`, digest: base64.StdEncoding.EncodeToString(sum[:])},
		"no etag":  {code: "conflict"},
		"changed":  {etag: `"a"`, changes: true, code: "content_changed"},
		"tampered": {etag: `"a"`, digest: base64.StdEncoding.EncodeToString(make([]byte, 32)), code: "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				var at int
				fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
				if tc.digest != "" {
					w.Header().Set("Repr-Digest", "sha-256=:"+tc.digest+":")
				}
				if tc.etag != "" {
					w.Header().Set("ETag", tc.etag)
				}
				if at > 0 && !tc.changes && r.Header.Get("If-Range") == tc.etag {
					w.Header().Set("Content-Length", strconv.Itoa(len(content)-at))
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(content)-1, len(content)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(content[at:])
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:len(content)/3])
				panic(http.ErrAbortHandler)
			})
			var got bytes.Buffer
			err := c.Download(t.Context(), "/x", &got, func(int64, int64) {})
			if tc.code == "" && (err != nil || !bytes.Equal(got.Bytes(), content)) || tc.code != "" && fault.CodeOf(err) != tc.code {
				t.Errorf("%d bytes, %v (%s)", got.Len(), err, fault.CodeOf(err))
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fmt.Errorf("no space left") }

func TestDownloadToAFullDisk(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { calls++; fmt.Fprint(w, "x") })
	if err := c.Download(t.Context(), "/x", full{}, func(int64, int64) {}); err == nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
