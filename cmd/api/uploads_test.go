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

// A file is put in parts, in any order, at addresses that need no credential, over
// a restart; it is completed once all have come.
func TestUploadInParts(t *testing.T) {
	dir := t.TempDir()
	a, stop := startApp(t, "--data-dir="+dir)
	base := "http://" + a.http.Addr()
	file := bytes.Repeat([]byte("row,1.5,text\n"), 900_000)
	sum := sha256.Sum256(file)
	made := infer(t, "POST", base+"/v1/uploads", fmt.Appendf(nil, `{"mode":"parts","content_type":"text/csv","length":%d,"part_size":5242880}`, len(file)), "Content-Type", "application/json")
	var view struct {
		Parts struct{ Size, Count int }
		State string
		URLs  struct{ Parts, Complete string }
	}
	if err := json.Unmarshal(made.body, &view); err != nil || made.StatusCode != 201 || view.Parts.Count != 3 || view.URLs.Parts == "" {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	type page struct {
		Data []struct {
			Offset, Length int
			Kept           bool
			URL            string
		}
		Next string `json:"next_cursor"`
	}
	parts := func(query string) (p page) {
		t.Helper()
		got := infer(t, "GET", base+view.URLs.Parts+query, nil)
		if err := json.Unmarshal(got.body, &p); err != nil || got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
		return p
	}
	first := parts("?limit=2")
	last := parts("?limit=2&cursor=" + first.Next)
	if len(first.Data) != 2 || len(last.Data) != 1 || last.Next != "" || last.Data[0].Offset+last.Data[0].Length != len(file) {
		t.Fatalf("%+v %+v", first, last)
	}
	all := append(last.Data, first.Data...) // in another order
	for i, p := range all {
		if i == 2 {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			a, _ = startApp(t, "--data-dir="+dir)
			base = "http://" + a.http.Addr()
			if got := infer(t, "POST", base+view.URLs.Complete, []byte(`{}`), "Content-Type", "application/json"); got.StatusCode != 409 || !strings.Contains(string(got.body), "upload_incomplete") {
				t.Errorf("without one: %d %s", got.StatusCode, got.body)
			}
			if now := parts(""); !now.Data[0].Kept || now.Data[1].Kept || !now.Data[2].Kept {
				t.Errorf("after a restart: %+v", now)
			}
		}
		piece := file[p.Offset : p.Offset+p.Length]
		if got := infer(t, "PUT", base+strings.Replace(p.URL, "signature=", "signature=x", 1), piece); got.StatusCode != 403 {
			t.Errorf("another signature: %d %s", got.StatusCode, got.body)
		}
		if got := infer(t, "PUT", base+p.URL, piece[1:]); got.StatusCode != 400 || !strings.Contains(string(got.body), "size_mismatch") {
			t.Errorf("another size: %d %s", got.StatusCode, got.body)
		}
		if got := infer(t, "PUT", base+p.URL, piece, "Content-Type", []string{"text/csv", "application/x-www-form-urlencoded", ""}[i]); got.StatusCode != 204 || got.Header.Get("ETag") == "" {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	done := infer(t, "POST", base+view.URLs.Complete, fmt.Appendf(nil, `{"sha256":"%s"}`, hex.EncodeToString(sum[:])), "Content-Type", "application/json")
	if err := json.Unmarshal(done.body, &view); err != nil || done.StatusCode != 200 || view.State != "complete" || done.Header.Get("Repr-Digest") == "" {
		t.Fatalf("%d %s", done.StatusCode, done.body)
	}
	if got := infer(t, "GET", base+made.Header.Get("Location")+"/content", nil); got.StatusCode != 200 || !bytes.Equal(got.body, file) {
		t.Errorf("%d, %d bytes of %d", got.StatusCode, len(got.body), len(file))
	}
}
