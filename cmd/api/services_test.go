//go:build services

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/cql/cqltest"
)

// objects is the address of a folder of the test server's bucket that nobody else has.
func objects(t *testing.T) string {
	t.Helper()
	address := os.Getenv("SLUICE_TEST_S3_URL")
	if address == "" {
		t.Fatal("SLUICE_TEST_S3_URL is not set: start the servers with `make services`, run the tests with `make test-services`")
	}
	return address + "&prefix=apitest/" + strings.ToLower(rand.Text())
}

// inParts uploads a file past the server, to the addresses of its object store.
func inParts(t *testing.T, base string, file []byte) string {
	t.Helper()
	made := post(t, base+"/v1/uploads", fmt.Sprintf(`{"mode":"parts","content_type":"text/csv","length":%d,"part_size":5242880}`, len(file)))
	var view struct {
		URLs struct{ Parts, Complete string }
	}
	var page struct {
		Data []struct {
			Offset, Length int
			URL            string
		}
	}
	if err := json.Unmarshal(made.body, &view); err != nil || made.StatusCode != 201 {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	if got := infer(t, "GET", base+view.URLs.Parts, nil); json.Unmarshal(got.body, &page) != nil || len(page.Data) == 0 {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	for _, p := range page.Data {
		if !strings.HasPrefix(p.URL, "http") {
			t.Fatalf("%s is no address of an object store", p.URL)
		}
		if got := infer(t, "PUT", p.URL, file[p.Offset:p.Offset+p.Length]); got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	sum := sha256.Sum256(file)
	if got := post(t, base+view.URLs.Complete, fmt.Sprintf(`{"sha256":"%s"}`, hex.EncodeToString(sum[:]))); got.StatusCode != 200 {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	return uploadOf(made)
}

// A batch whose file is in an object store, uploaded in parts, gives the same bytes as
// one in a folder; results are read in ranges.
func TestBatchOnS3(t *testing.T) {
	file := flowers(300_000)
	run := func(base, upload string) (shownBatch, exchange) {
		location := base + submitted(t, base, `{"input":{"upload_id":"`+upload+`"},"format":"csv","model":"iris","row_id":"id","output":{"formats":["jsonl","parquet"]},"columns":{"input":["a","b","c","d"]}}`)
		b := until(t, location, shownBatch.final)
		results := infer(t, "GET", location+"/results?format=jsonl", nil)
		if part := infer(t, "GET", location+"/results?format=jsonl", nil, "Range", "bytes=1000-1999"); part.StatusCode != 206 || !bytes.Equal(part.body, results.body[1000:2000]) {
			t.Errorf("%d, %d bytes of a range", part.StatusCode, len(part.body))
		}
		if got := infer(t, "GET", location+"/results?format=parquet", nil); !bytes.HasPrefix(got.body, []byte("PAR1")) {
			t.Errorf("%d, %.20q", got.StatusCode, got.body)
		}
		return b, results
	}
	folder, _ := startApp(t)
	base := "http://" + folder.http.Addr()
	_, want := run(base, uploaded(t, base, file))
	a, _ := startApp(t, "--blob-url="+objects(t))
	base = "http://" + a.http.Addr()
	b, got := run(base, inParts(t, base, file))
	if b.Status != "completed" || b.RowCounts["failed"] != 300 || b.RowCounts["succeeded"] != 299_700 {
		t.Errorf("%+v", b)
	}
	if len(want.body) == 0 || !bytes.Equal(got.body, want.body) {
		t.Errorf("%d bytes, in a folder %d", len(got.body), len(want.body))
	}
}

// An export is downloaded from the object store itself, at an address that needs no
// credential.
func TestExportOnS3(t *testing.T) {
	a, _ := startApp(t, "--blob-url="+objects(t))
	base := "http://" + a.http.Addr()
	until(t, base+submitted(t, base, `{"input":{"upload_id":"`+uploaded(t, base, flowers(2000))+`"},"format":"csv","model":"iris","row_id":"id","columns":{"input":["a","b","c","d"]}}`), shownBatch.final)
	asked := post(t, base+"/v1/exports", `{"dataset":"batches","format":"csv"}`)
	self := base + asked.Header.Get("Location")
	var view struct {
		Status, SHA256 string
		Rows           int
	}
	for deadline := time.Now().Add(20 * time.Second); view.Status != "completed"; time.Sleep(5 * time.Millisecond) {
		if got := infer(t, "GET", self, nil); got.StatusCode != 200 || json.Unmarshal(got.body, &view) != nil || view.Status == "failed" || time.Now().After(deadline) {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, self+"/content?redirect=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	redirect, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	redirect.Body.Close()
	address := redirect.Header.Get("Location")
	file := infer(t, "GET", address, nil)
	sum := sha256.Sum256(file.body)
	if redirect.StatusCode != 302 || file.StatusCode != 200 || view.Rows != 1 || hex.EncodeToString(sum[:]) != view.SHA256 {
		t.Errorf("%d, %d, %d rows, %s", redirect.StatusCode, file.StatusCode, view.Rows, file.body)
	}
	if part := infer(t, "GET", address, nil, "Range", "bytes=0-9"); part.StatusCode != 206 || !bytes.Equal(part.body, file.body[:10]) {
		t.Errorf("%d %s", part.StatusCode, part.body)
	}
	if got := infer(t, "GET", strings.Replace(address, "exports", "uploads", 1), nil); got.StatusCode != 403 {
		t.Errorf("another object by that address: %d", got.StatusCode)
	}
}

// The program on a cluster of each: the same commands, lists and predictions as in one
// process, by configuration alone.
func TestOnServers(t *testing.T) {
	queues := os.Getenv("SLUICE_TEST_NATS_URL")
	if queues == "" {
		t.Fatal("SLUICE_TEST_NATS_URL is not set: run make services")
	}
	model := "on-servers-" + strings.ToLower(rand.Text())
	a, stop := startApp(t, "--blob-url="+objects(t), "--database-url="+cqltest.Fresh(t), "--nats-url="+queues, "--nats-replicas=3", "--models=")
	base := "http://" + a.http.Addr()
	for number := range 2 {
		file, err := os.ReadFile(fmt.Sprintf("../../models/iris/%d/model.onnx", number+1))
		if err != nil {
			t.Fatal(err)
		}
		e, v := registerVersion(t, base, model, fmt.Sprintf(`{"upload_id":%q,"labels":{"n":"%d"}}`, put(t, base, file), number))
		if e.StatusCode != 201 {
			t.Fatalf("%d %s", e.StatusCode, e.body)
		}
		if v = settled(t, base, v.URLs.Self); v.Stage != "ready" {
			t.Fatalf("%+v", v)
		}
	}
	infers := []byte(`{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if e := infer(t, "POST", base+"/v2/models/"+model+"/versions/2/infer", infers); e.StatusCode == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the version is not served: %d %s", e.StatusCode, e.body)
		}
	}
	if e := infer(t, "PUT", base+"/v1/models/"+model+"/aliases/best", []byte(`{"version":"1"}`), "Content-Type", "application/json", "If-None-Match", "*"); e.StatusCode/100 != 2 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	for query, want := range map[string]bool{
		"": true, "prefix=" + model[:9]: true, "prefix=x": false, "search=" + strings.ToUpper(model): true, "stage=ready": true, "stage=rejected": false,
		"label=n:1": true, "label=n:0": false, "alias=best": true, "alias=worst": false, "created_to=2020-01-01T00:00:00Z": false,
	} {
		e := infer(t, "GET", base+"/v1/models?"+query, nil)
		if e.StatusCode != 200 || bytes.Contains(e.body, []byte(`"name":"`+model+`"`)) != want {
			t.Errorf("models?%s: %d %s", query, e.StatusCode, e.body)
		}
	}
	for query, want := range map[string]int{"": 2, "stage=ready": 2, "label=n:1": 1, "stage=archived": 0} {
		var page struct{ Data []versionView }
		e := infer(t, "GET", base+"/v1/models/"+model+"/versions?"+query, nil)
		if err := json.Unmarshal(e.body, &page); err != nil || e.StatusCode != 200 || len(page.Data) != want {
			t.Errorf("versions?%s: %d %s, want %d", query, e.StatusCode, e.body, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
