package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// A file is uploaded in pieces, over a restart, and downloaded as it was.
func TestUploadOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	a, stop := startApp(t, "--data-dir="+dir)
	file := bytes.Repeat([]byte("row,1.5,text\n"), 1_200_000) // of two parts
	sum := sha256.Sum256(file)
	made := infer(t, "POST", "http://"+a.http.Addr()+"/v1/uploads", fmt.Appendf(nil, `{"name":"t.csv","content_type":"text/csv","length":%d,"sha256":"%s"}`, len(file), hex.EncodeToString(sum[:])),
		"Content-Type", "application/json", "Idempotency-Key", "u1")
	location := made.Header.Get("Location")
	if made.StatusCode != 201 || location == "" || made.Header.Get("Upload-Offset") != "0" || !strings.Contains(made.Header.Get("Upload-Limit"), "max-append-size=") {
		t.Fatalf("%d %s %v", made.StatusCode, made.body, made.Header)
	}
	piece := func(base string, from, to int, last string, more ...string) exchange {
		return infer(t, "PATCH", base+location, file[from:to], append([]string{"Content-Type", "application/partial-upload", "Upload-Offset", strconv.Itoa(from), "Upload-Complete", last}, more...)...)
	}
	base := "http://" + a.http.Addr()
	half := len(file) * 2 / 3
	if got := piece(base, 0, half, "?0"); got.StatusCode != 204 || got.Header.Get("Upload-Offset") != strconv.Itoa(half) || got.Header.Get("Upload-Complete") != "?0" {
		t.Fatalf("%d %s %v", got.StatusCode, got.body, got.Header)
	}
	if got := piece(base, 0, 10, "?0"); got.StatusCode != 409 || got.Header.Get("Upload-Offset") != strconv.Itoa(half) || !strings.Contains(string(got.body), "upload_offset_mismatch") {
		t.Errorf("at another offset: %d %s %v", got.StatusCode, got.body, got.Header)
	}
	if got := piece(base, half, len(file), "?1", "Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+":"); got.StatusCode != 400 || got.Header.Get("Upload-Offset") != strconv.Itoa(half) {
		t.Errorf("another digest: %d %s %v", got.StatusCode, got.body, got.Header)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b, _ := startApp(t, "--data-dir="+dir)
	base = "http://" + b.http.Addr()
	head := infer(t, "HEAD", base+location, nil)
	if head.StatusCode != 200 || head.Header.Get("Upload-Offset") != strconv.Itoa(half) || head.Header.Get("Upload-Complete") != "?0" || head.Header.Get("Upload-Length") != strconv.Itoa(len(file)) {
		t.Fatalf("%d %v", head.StatusCode, head.Header)
	}
	done := piece(base, half, len(file), "?1")
	var view struct{ State, SHA256 string }
	if err := json.Unmarshal(done.body, &view); err != nil || done.StatusCode != 200 || view.State != "complete" || done.Header.Get("Upload-Complete") != "?1" || done.Header.Get("Repr-Digest") == "" {
		t.Fatalf("%d %s %v", done.StatusCode, done.body, done.Header)
	}
	if got := infer(t, "GET", base+location+"/content", nil); got.StatusCode != 200 || !bytes.Equal(got.body, file) || got.Header.Get("Repr-Digest") != done.Header.Get("Repr-Digest") {
		t.Errorf("%d, %d bytes of %d", got.StatusCode, len(got.body), len(file))
	}
	if got := infer(t, "GET", base+location+"/content", nil, "Range", "bytes=13-24"); got.StatusCode != 206 || string(got.body) != "row,1.5,text" {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, "DELETE", base+location, nil); got.StatusCode != 204 {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, "GET", base+location+"/content", nil); got.StatusCode != 404 {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

// A prediction takes its inputs from an upload, at once or durably, and outlives it.
func TestPredictionFromAnUpload(t *testing.T) {
	a, _ := startApp(t, "--data-dir="+t.TempDir())
	base := "http://" + a.http.Addr()
	put := func(content string) string {
		made := infer(t, "POST", base+"/v1/uploads", fmt.Appendf(nil, `{"content_type":"application/json","length":%d}`, len(content)), "Content-Type", "application/json")
		if got := infer(t, "PATCH", base+made.Header.Get("Location"), []byte(content), "Content-Type", "application/partial-upload", "Upload-Offset", "0", "Upload-Complete", "?1"); got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
		return uploadOf(made)
	}
	ask := func(body, prefer string) exchange {
		return infer(t, "POST", base+"/v1/models/iris/predictions", []byte(body), "Content-Type", "application/json", "Prefer", prefer)
	}
	const rows = `"rows":[{"input":[5.1,3.5,1.4,0.2]},{"input":[6.7,3.0,5.2,2.3]}]`
	inline, id := ask("{"+rows+"}", ""), put("{"+rows+"}")
	var want, got struct{ Output json.RawMessage }
	if err := json.Unmarshal(inline.body, &want); err != nil || inline.StatusCode != 200 || len(want.Output) == 0 {
		t.Fatalf("%d %s", inline.StatusCode, inline.body)
	}
	for _, prefer := range []string{"", "wait=20"} {
		e := ask(fmt.Sprintf(`{"upload":%q}`, id), prefer)
		if err := json.Unmarshal(e.body, &got); err != nil || e.StatusCode != 200 || !bytes.Equal(got.Output, want.Output) {
			t.Errorf("Prefer %q: %d %s", prefer, e.StatusCode, e.body)
		}
	}
	for what, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"both":       {fmt.Sprintf(`{"upload":%q,%s}`, id, rows), 422, "inputs_ambiguous"},
		"unknown":    {`{"upload":"upl_1"}`, 404, "not_found"},
		"no object":  {fmt.Sprintf(`{"upload":%q}`, put(`[1]`)), 422, "upload_invalid"},
		"stranger":   {fmt.Sprintf(`{"upload":%q}`, put(`{"rows":[],"inptus":[]}`)), 422, "upload_invalid"},
		"two":        {fmt.Sprintf(`{"upload":%q}`, put("{"+rows+"}{}")), 422, "upload_invalid"},
		"nothing":    {fmt.Sprintf(`{"upload":%q}`, put(`{}`)), 422, "inputs_missing"},
		"incomplete": {fmt.Sprintf(`{"upload":%q}`, uploadOf(infer(t, "POST", base+"/v1/uploads", []byte(`{"content_type":"application/json","length":5}`), "Content-Type", "application/json"))), 409, "upload_incomplete"},
	} {
		if e := ask(c.body, ""); e.StatusCode != c.status || !strings.Contains(string(e.body), c.code) {
			t.Errorf("%s: %d %s, want %d %s", what, e.StatusCode, e.body, c.status, c.code)
		}
	}
}

func uploadOf(made exchange) string {
	location := made.Header.Get("Location")
	return location[strings.LastIndexByte(location, '/')+1:]
}
