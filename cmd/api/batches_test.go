package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childCommand has the test binary be the server.
const childCommand = "serve-as-child"

// shownBatch is what the tests look at of a batch.
type shownBatch struct {
	ID, Status, Outcome string
	RowCounts           map[string]int `json:"row_counts"`
	Progress            struct{ Percent int }
	Quote               struct {
		Rows      int
		Exact     bool `json:"rows_exact"`
		Seconds   float64
		ComputeMS float64 `json:"compute_ms"`
	}
	Errors []struct {
		Index, Line int
		Code        string
	}
	Results struct {
		Rows   int
		SHA256 string
		Files  []struct{ Rows int }
	}
	Error struct{ Code string }
}

// flowers is a file of rows for the model iris, some of which cannot be read.
func flowers(rows int) []byte {
	var b bytes.Buffer
	b.WriteString("id;a;b;c;d\n")
	for i := range rows {
		a := strconv.Itoa(i%8) + ",5"
		if i%1000 == 999 {
			a = "none"
		}
		fmt.Fprintf(&b, "r%d;%s;%d;1,5;%d\n", i, a, i%5, i%3)
	}
	return b.Bytes()
}

func uploaded(t *testing.T, base string, content []byte) string {
	t.Helper()
	made := infer(t, "POST", base+"/v1/uploads", []byte(`{"content_type":"text/csv"}`), "Content-Type", "application/json")
	location := made.Header.Get("Location")
	got := infer(t, "PATCH", base+location, content, "Content-Type", "application/partial-upload", "Upload-Offset", "0", "Upload-Complete", "?1")
	if got.StatusCode != 200 {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	return location[strings.LastIndexByte(location, '/')+1:]
}

func post(t *testing.T, url, body string) exchange {
	t.Helper()
	return infer(t, "POST", url, []byte(body), "Content-Type", "application/json")
}

func submitted(t *testing.T, base, body string) string {
	t.Helper()
	made := post(t, base+"/v1/batches", body)
	if made.StatusCode != 202 || made.Header.Get("Location") == "" {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	return made.Header.Get("Location")
}

func batchAt(t *testing.T, url string) (b shownBatch) {
	t.Helper()
	got := infer(t, "GET", url, nil)
	if err := json.Unmarshal(got.body, &b); err != nil || got.StatusCode != 200 {
		t.Fatalf("%d %s %v", got.StatusCode, got.body, err)
	}
	sum := -b.RowCounts["total"]
	for name, n := range b.RowCounts {
		if name != "total" {
			sum += n
		}
	}
	if sum != 0 {
		t.Fatalf("rows that do not sum up: %v", b.RowCounts)
	}
	return b
}

func (b shownBatch) final() bool {
	return b.Status == "completed" || b.Status == "failed" || b.Status == "cancelled" || b.Status == "expired"
}

// until waits until a batch is as it should be.
func until(t *testing.T, url string, is func(shownBatch) bool) shownBatch {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b := batchAt(t, url)
		if is(b) {
			return b
		}
		if time.Now().After(end) {
			t.Fatalf("it stays so: %+v", b)
		}
	}
}

func TestBatch(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	upload := uploaded(t, base, flowers(2000))
	location := submitted(t, base, `{"input":{"upload_id":"`+upload+`"},"model":"iris@candidate","row_id":"id","output":{"format":"csv","include_input":["id"]},"columns":{"input":["a","b","c","d"]},"metadata":{"who":"me"},"csv":{"delimiter":";","quote":"none","header":true,"decimal":","},"encoding":"utf-8"}`)
	b := until(t, base+location, shownBatch.final)
	if b.Status != "completed" || b.Outcome != "partial" || b.RowCounts["succeeded"] != 1998 || len(b.Errors) != 2 || b.Errors[0].Line != 1001 || b.Errors[1].Index != 1999 {
		t.Fatalf("%+v", b)
	}
	if q := b.Quote; q.Rows != 2000 || !q.Exact || q.Seconds < 1 || q.ComputeMS <= 0 {
		t.Errorf("%+v", q)
	}
	results := infer(t, "GET", base+location+"/results", nil)
	lines := strings.Split(strings.TrimSpace(string(results.body)), "\r\n")
	if results.StatusCode != 200 || len(lines) != 2001 || !strings.HasPrefix(lines[0], "row_id,index,status,") || !strings.HasPrefix(lines[1], "r0,0,succeeded,") || !strings.HasPrefix(lines[1000], "r999,999,failed,") || results.Header.Get("Repr-Digest") == "" {
		t.Errorf("%d, %v, %d lines, %.100s", results.StatusCode, results.Header, len(lines), results.body)
	}
	if part := infer(t, "GET", base+location+"/results", nil, "Range", "bytes=100-199"); part.StatusCode != 206 || !bytes.Equal(part.body, results.body[100:200]) {
		t.Errorf("%d %s", part.StatusCode, part.body)
	}
	if failed := infer(t, "GET", base+location+"/errors", nil); bytes.Count(failed.body, []byte("\n")) != 2 {
		t.Errorf("%s", failed.body)
	}
	if list := infer(t, "GET", base+"/v1/batches?status=completed&model=iris", nil); !bytes.Contains(list.body, []byte(b.ID)) {
		t.Errorf("%s", list.body)
	}
	if again := post(t, base+location+"/cancel", ""); again.StatusCode != 200 {
		t.Errorf("cancelled after its end: %d %s", again.StatusCode, again.body)
	}
	if again := post(t, base+location+"/retry", ""); again.StatusCode != 202 {
		t.Errorf("%d %s", again.StatusCode, again.body)
	}
	if b := until(t, base+location, shownBatch.final); b.RowCounts["failed"] != 2 {
		t.Errorf("%+v", b)
	}
	if got := infer(t, "GET", base+location+"/results", nil); !bytes.Equal(got.body, results.body) {
		t.Errorf("a retry that changed nothing changed the results")
	}
	several := submitted(t, base, `{"input":{"upload_id":"`+upload+`"},"model":"iris","row_id":"id","output":{"formats":["xlsx","parquet"]}}`)
	if b := until(t, base+several, shownBatch.final); len(b.Results.Files) != 2 || b.Results.Files[1].Rows != 2000 {
		t.Errorf("%+v", b)
	}
	for query, begin := range map[string]string{"": "PK", "?format=parquet": "PAR1", "?format=jsonl": `{"row_id":"r0"`, "?format=csv": `{"type":`} {
		if got := infer(t, "GET", base+several+"/results"+query, nil); !bytes.HasPrefix(got.body, []byte(begin)) {
			t.Errorf("%s: %d %.200s", query, got.StatusCode, got.body)
		}
	}
	inline := submitted(t, base, `{"input":{"inline":[{"id":"x","input":[5.1,3.5,1.4,0.2]},
		{"id":"y","input":["no number",3.5,1.4,0.2]}]},"model":"iris","row_id":"id"}`)
	if b := until(t, base+inline, shownBatch.final); b.RowCounts["succeeded"] != 1 || b.RowCounts["failed"] != 1 || b.Errors[0].Line != 2 || !b.Quote.Exact && b.Quote.Rows != 2 {
		t.Errorf("%+v", b)
	}
	if got := infer(t, "GET", base+inline+"/results", nil); !bytes.HasPrefix(got.body, []byte(`{"row_id":"x","index":0,"status":"succeeded"`)) {
		t.Errorf("%s", got.body)
	}
	for name, tt := range map[string]struct{ body, code string }{
		"no input":     {`{"input":{},"model":"iris"}`, "input_invalid"},
		"two inputs":   {`{"input":{"upload_id":"` + upload + `","inline":[{"input":[1,2,3,4]}]},"model":"iris"}`, "input_invalid"},
		"inline CSV":   {`{"input":{"inline":[{"input":[1,2,3,4]}]},"format":"csv","model":"iris"}`, "input_invalid"},
		"inline text":  {`{"input":{"inline":["5.1,3.5,1.4,0.2"]},"model":"iris"}`, "rows_invalid_file"},
		"no upload":    {`{"input":{"upload_id":"upl_x"},"format":"csv","model":"iris"}`, "not_found"},
		"no model":     {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"nosuch"}`, "model_not_found"},
		"no column":    {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","columns":{"input":["a","b","c","e"]}}`, "columns_missing"},
		"not an input": {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","columns":{"x":["a"]}}`, "columns_invalid"},
		"few columns":  {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","columns":{"input":["a","b"]}}`, "columns_invalid"},
		"no row":       {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","columns":{"input":["a","b","c","id"]}}`, "rows_invalid_file"},
		"stop":         {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","row_id":"id","on_row_error":"stop"}`, "rows_invalid_file"},
		"JSON":         {`{"input":{"upload_id":"` + upload + `"},"format":"jsonl","model":"iris"}`, "rows_invalid_file"},
		"workbook":     {`{"input":{"upload_id":"` + upload + `"},"format":"xlsx","model":"iris"}`, "file_damaged"},
		"dialect":      {`{"input":{"upload_id":"` + upload + `"},"format":"csv","csv":{"delimiter":"é"},"model":"iris"}`, "dialect_invalid"},
		"decimal":      {`{"input":{"upload_id":"` + upload + `"},"format":"csv","csv":{"decimal":"_"},"model":"iris"}`, "validation_failed"},
		"soon":         {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","columns":{"input":["a","b","c","d"]},"deadline_at":"` + time.Now().Add(700*time.Millisecond).UTC().Format(time.RFC3339Nano) + `"}`, "deadline_unattainable"},
		"late":         {`{"input":{"upload_id":"` + upload + `"},"format":"csv","model":"iris","deadline_at":"2020-01-01T00:00:00Z"}`, "deadline_passed"},
	} {
		if got := post(t, base+"/v1/batches", tt.body); got.StatusCode < 400 || got.StatusCode >= 500 || !bytes.Contains(got.body, []byte(`"`+tt.code+`"`)) {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.body)
		}
	}
}

// child is a server in a process of its own.
func child(t *testing.T, dir, addr string) (kill func()) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], childCommand, "--http-addr="+addr, "--grpc-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--model-repository=../../models",
		"--onnxruntime="+os.Getenv("SLUICE_ONNXRUNTIME"), "--models=iris", "--data-dir="+dir, "--batch-lease=2s")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { _ = c.Process.Kill(); _ = c.Wait() }
	t.Cleanup(kill)
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return kill
		}
		if time.Now().After(end) {
			t.Fatalf("it does not start: %s", stderr.String())
		}
	}
}

// A process that is killed in the middle of a batch, again and again, leaves the same
// bytes as one that nobody disturbs.
func TestBatchOutlivesKills(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	base, dir := "http://"+addr, t.TempDir()
	kill := child(t, dir, addr)
	request := `{"input":{"upload_id":"` + uploaded(t, base, flowers(200_000)) + `"},"format":"csv","model":"iris","row_id":"id"}`
	quiet := base + submitted(t, base, request)
	want := until(t, quiet, shownBatch.final)
	location := base + submitted(t, base, request)
	for _, percent := range []int{1, 40} {
		until(t, location, func(b shownBatch) bool { return b.final() || b.Progress.Percent >= percent })
		kill()
		kill = child(t, dir, addr)
	}
	got := until(t, location, shownBatch.final)
	if got.Status != "completed" || got.RowCounts["failed"] != 200 || got.RowCounts["succeeded"] != 199_800 || got.Results.SHA256 != want.Results.SHA256 {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if a, b := infer(t, "GET", quiet+"/results", nil), infer(t, "GET", location+"/results", nil); !bytes.Equal(a.body, b.body) || len(a.body) == 0 {
		t.Errorf("%d bytes, undisturbed %d", len(b.body), len(a.body))
	}
}
