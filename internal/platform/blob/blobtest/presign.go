package blobtest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/blob"
)

// wantPresigned writes and reads an object through addresses, as a client does
// that has no credentials.
func wantPresigned(t *testing.T, b blob.Bucket, get, put string) {
	t.Helper()
	if status, _, _ := do(t, http.MethodPut, put, "by address", ""); status != http.StatusOK {
		t.Fatalf("put by address answered %d", status)
	}
	wantContent(t, b, "acme/x", "by address")
	if status, body, _ := do(t, http.MethodGet, get, "", ""); status != http.StatusOK || body != "by address" {
		t.Errorf("get by address answered %d, %q", status, body)
	}
	if status, body, _ := do(t, http.MethodGet, get, "", "bytes=3-5"); status != http.StatusPartialContent || body != "add" {
		t.Errorf("a range by address answered %d, %q", status, body)
	}
	if status, _, _ := do(t, http.MethodGet, strings.Replace(get, "acme/x", "acme/y", 1), "", ""); status != http.StatusForbidden {
		t.Errorf("an address changed to another key answered %d, expected 403", status)
	}
	if status, _, _ := do(t, http.MethodPut, get, "x", ""); status != http.StatusForbidden {
		t.Errorf("a write to an address for reading answered %d, expected 403", status)
	}
	named, err := b.PresignGet(t.Context(), "acme/x", time.Minute, `résumé "1".csv`)
	if err != nil {
		t.Fatal(err)
	}
	_, _, header := do(t, http.MethodGet, named, "", "")
	if got := header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename") {
		t.Errorf("Content-Disposition is %q", got)
	}
}

// wantPartByAddress stores a part through its address, which takes no other length,
// number or upload.
func wantPartByAddress(t *testing.T, b blob.Bucket, up blob.Upload, address string) {
	t.Helper()
	for what, tc := range map[string]struct{ address, content string }{
		"a longer part":  {address, "by address!"},
		"a shorter part": {address, "by add"},
		"another number": {strings.Replace(address, "partNumber=1", "partNumber=2", 1), "by address"},
		"another object": {strings.Replace(address, "acme/parts", "acme/other", 1), "by address"},
	} {
		if status, body, _ := do(t, http.MethodPut, tc.address, tc.content, ""); status != http.StatusForbidden {
			t.Errorf("%s by address answered %d, expected 403: %s", what, status, body)
		}
	}
	if got := parts(t, b, up); len(got) != 0 {
		t.Errorf("what was refused is there: %+v", got)
	}
	status, _, header := do(t, http.MethodPut, address, "by address", "")
	if status != http.StatusOK || header.Get("ETag") == "" {
		t.Fatalf("a part by address answered %d, ETag %q", status, header.Get("ETag"))
	}
	got := parts(t, b, up)
	if len(got) != 1 || got[0].Size != int64(len("by address")) || strings.Trim(header.Get("ETag"), `"`) != got[0].ETag {
		t.Fatalf("parts are %+v, and the ETag told was %s", got, header.Get("ETag"))
	}
	if _, err := b.Complete(t.Context(), up, got, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, b, up.Key, "by address")
}

func do(t *testing.T, method, address, content, ranges string) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}
