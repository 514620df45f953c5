package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batch "sluice/internal/batch/job"
	"sluice/internal/inference/job"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/repo"
)

// versionView is what the tests read of a version.
type versionView struct {
	Number  int64
	Stage   string
	Known   bool
	Digest  string
	SHA256  string
	Problem struct{ Code, Message string }
	Trial   struct{ Golden bool }
	URLs    struct{ Self string }
}

// put uploads content in one piece and returns the upload's id.
func put(t *testing.T, base string, content []byte) string {
	t.Helper()
	made := infer(t, "POST", base+"/v1/uploads", fmt.Appendf(nil, `{"content_type":"application/octet-stream","length":%d}`, len(content)), "Content-Type", "application/json")
	if got := infer(t, "PATCH", base+made.Header.Get("Location"), content, "Content-Type", "application/partial-upload", "Upload-Offset", "0", "Upload-Complete", "?1"); got.StatusCode != 200 {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	return uploadOf(made)
}

func registerVersion(t *testing.T, base, model, body string, headers ...string) (exchange, versionView) {
	t.Helper()
	e := infer(t, "POST", base+"/v1/models/"+model+"/versions", []byte(body), append([]string{"Content-Type", "application/json"}, headers...)...)
	var v versionView
	if err := json.Unmarshal(e.body, &v); err != nil {
		t.Fatalf("%d %s: %v", e.StatusCode, e.body, err)
	}
	return e, v
}

// settled waits until a version is tried.
func settled(t *testing.T, base, self string) (v versionView) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		e := infer(t, "GET", base+self, nil)
		v = versionView{}
		if err := json.Unmarshal(e.body, &v); err != nil || e.StatusCode != 200 {
			t.Fatalf("%d %s", e.StatusCode, e.body)
		}
		if v.Stage != "registered" {
			return v
		}
	}
	t.Fatalf("%s stays registered", self)
	return v
}

const irisConfig = "labels: {best: 1}\nslo: 50ms\n"

// goldenIris is a run of iris as it is in the sample repository.
func goldenIris(t *testing.T, base string) (inputs, outputs []byte) {
	t.Helper()
	inputs = []byte(`{"inputs":[{"name":"input","shape":[2,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2,6.7,3.0,5.2,2.3]}]}`)
	e := infer(t, "POST", base+"/v2/models/iris/versions/1/infer", inputs, "Content-Type", "application/json")
	var answer struct{ Outputs []json.RawMessage }
	if err := json.Unmarshal(e.body, &answer); err != nil || e.StatusCode != 200 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	outputs, err := json.Marshal(map[string]any{"outputs": answer.Outputs})
	if err != nil {
		t.Fatal(err)
	}
	return inputs, outputs
}

// A version is registered, tried, found by what is known of it, changed, deleted
// and restored; the same files are the same version; a wrong golden run rejects.
func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	a, stop := startApp(t, "--data-dir="+dir)
	base := "http://" + a.http.Addr()
	file, err := os.ReadFile("../../models/iris/1/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	inputs, outputs := goldenIris(t, base)
	files := func(outputs []byte) string {
		return fmt.Sprintf(`"files":[{"name":"model.onnx","upload_id":%q},{"name":"config.yaml","upload_id":%q},{"name":"golden_inputs.json","upload_id":%q},{"name":"golden_outputs.json","upload_id":%q}]`,
			put(t, base, file), put(t, base, []byte(irisConfig)), put(t, base, inputs), put(t, base, outputs))
	}
	e, v := registerVersion(t, base, "iris", `{`+files(outputs)+`,"labels":{"team":"flowers"},"metrics":{"f1":0.97},"card":"# iris","lineage":{"code":"git@abc"}}`)
	sum := sha256.Sum256(file)
	if e.StatusCode != 201 || v.Number != 3 || v.SHA256 != hex.EncodeToString(sum[:]) || e.Header.Get("Location") != "/v1/models/iris/versions/3" {
		t.Fatalf("%d %s %v", e.StatusCode, e.body, e.Header) // the sample repository has versions 1 and 2
	}
	if v = settled(t, base, v.URLs.Self); v.Stage != "ready" || !v.Trial.Golden {
		t.Fatalf("%+v", v)
	}
	if e, same := registerVersion(t, base, "iris", `{`+files(outputs)+`}`); e.StatusCode != 200 || !same.Known || same.Digest != v.Digest {
		t.Errorf("the same files: %d %s", e.StatusCode, e.body)
	}
	_, bad := registerVersion(t, base, "iris", `{`+files([]byte(strings.Replace(string(outputs), `"data":[`, `"data":[7`, 1)))+`}`)
	if bad = settled(t, base, bad.URLs.Self); bad.Stage != "rejected" || bad.Problem.Code != "golden_mismatch" || !strings.Contains(bad.Problem.Message, "expected 7") {
		t.Errorf("another golden run: %+v", bad)
	}
	for query, want := range map[string]string{"": "4 3", "stage=ready": "3", "label=team:flowers": "3", "sha256=" + v.SHA256: "4 3", "digest=" + bad.Digest: "4", "created_to=2020-01-01T00:00:00Z": ""} {
		e := infer(t, "GET", base+"/v1/models/iris/versions?"+query, nil)
		var page struct{ Data []versionView }
		if err := json.Unmarshal(e.body, &page); err != nil || e.StatusCode != 200 {
			t.Fatalf("%s: %d %s", query, e.StatusCode, e.body)
		}
		var got []string
		for _, v := range page.Data {
			got = append(got, fmt.Sprint(v.Number))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a, _ = startApp(t, "--data-dir="+dir)
	base = "http://" + a.http.Addr()
	self := base + v.URLs.Self
	etag := infer(t, "GET", self, nil).Header.Get("ETag")
	patch := func(body, match string) exchange {
		return infer(t, "PATCH", self, []byte(body), "Content-Type", "application/json", "If-Match", match)
	}
	if e := patch(`{"card":"# new","metrics":{"f1":0.98}}`, etag); e.StatusCode != 200 || !strings.Contains(string(e.body), "# new") || !strings.Contains(string(e.body), "flowers") {
		t.Errorf("%d %s", e.StatusCode, e.body)
	}
	if e := patch(`{"card":"# newer"}`, etag); e.StatusCode != 412 {
		t.Errorf("a stale change: %d %s", e.StatusCode, e.body)
	}
	if e := patch(`{"stage":"registered"}`, "*"); e.StatusCode != 409 || !strings.Contains(string(e.body), "version_stage") {
		t.Errorf("%d %s", e.StatusCode, e.body)
	}
	for _, c := range []struct {
		method, path string
		match        string
		status       int
	}{
		{"DELETE", "", "", 428}, {"DELETE", "", "*", 204}, {"GET", "", "", 404}, {"POST", "/restore", "", 200}, {"GET", "", "", 200},
	} {
		h := []string{"If-Match", c.match}
		if c.match == "" {
			h = nil
		}
		if e := infer(t, c.method, self+c.path, nil, h...); e.StatusCode != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, e.StatusCode, e.body, c.status)
		}
	}
}

// What cannot be a version is refused with a problem that says why.
func TestRegistryRefuses(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	good := put(t, base, onnxtest.MLP(1, 4, 3))
	open := uploadOf(infer(t, "POST", base+"/v1/uploads", []byte(`{"content_type":"application/octet-stream","length":5}`), "Content-Type", "application/json"))
	for what, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nothing":       {`{}`, 422, "version_files_invalid"},
		"both":          {fmt.Sprintf(`{"upload_id":%q,"files":[{"name":"model.onnx","upload_id":%q}]}`, good, good), 422, "version_files_invalid"},
		"unknown":       {`{"upload_id":"upl_nobody"}`, 404, "not_found"},
		"incomplete":    {fmt.Sprintf(`{"upload_id":%q}`, open), 409, "upload_incomplete"},
		"path":          {fmt.Sprintf(`{"files":[{"name":"model.onnx","upload_id":%q},{"name":"../../etc/x","upload_id":%q}]}`, good, good), 422, "file_name_invalid"},
		"hostile":       {fmt.Sprintf(`{"upload_id":%q}`, put(t, base, onnxtest.ExternalData())), 422, "model_refused"},
		"zip":           {fmt.Sprintf(`{"upload_id":%q}`, put(t, base, []byte("PK\x03\x04zip"))), 422, "model_refused"},
		"other digest":  {fmt.Sprintf(`{"upload_id":%q,"sha256":"%064d"}`, good, 0), 422, "checksum_mismatch"},
		"clash":         {fmt.Sprintf(`{"upload_id":%q,"number":1}`, good), 409, "version_number_taken"},
		"unknown field": {fmt.Sprintf(`{"upload_id":%q,"stages":"ready"}`, good), 422, "unknown_field"},
	} {
		e := infer(t, "POST", base+"/v1/models/iris/versions", []byte(c.body), "Content-Type", "application/json")
		if e.StatusCode != c.status || !strings.Contains(string(e.body), c.code) || !strings.Contains(e.Header.Get("Content-Type"), "application/problem+json") {
			t.Errorf("%s: %d %s, want %d %s", what, e.StatusCode, e.body, c.status, c.code)
		}
	}
	if e := infer(t, "GET", base+"/v1/models/iris/versions", nil); e.StatusCode != 200 || !strings.Contains(string(e.body), `"data":[]`) {
		t.Errorf("what was refused is there: %d %s", e.StatusCode, e.body)
	}
	for _, path := range []string{"/v1/models/iris/versions/1", "/v1/models/iris/versions/x", "/v1/models/iris/versions/01", "/v1/models/nobody/versions/1"} {
		if e := infer(t, "GET", base+path, nil); e.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, e.StatusCode, e.body)
		}
	}
}

// What is registered is served, by its number and its alias, also after a restart,
// until it is deleted, which nobody may who would take it from an alias or a durable
// prediction.
func TestRegistryServes(t *testing.T) {
	models, dir := t.TempDir(), t.TempDir()
	if err := os.CopyFS(filepath.Join(models, "iris"), os.DirFS("../../models/iris")); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--data-dir=" + dir, "--models=", "--model-repository=" + models}
	a, stop := startApp(t, flags...)
	base := "http://" + a.http.Addr()
	body := fmt.Sprintf(`{"upload_id":%q}`, put(t, base, onnxtest.MLP(1, 4, 3)))
	_, v := registerVersion(t, base, "fresh", body)
	if v = settled(t, base, v.URLs.Self); v.Stage != "ready" || v.Number != 1 {
		t.Fatalf("%+v", v)
	}
	_, beside := registerVersion(t, base, "iris", body)
	if beside = settled(t, base, beside.URLs.Self); beside.Stage != "ready" || beside.Number != 3 {
		t.Fatalf("%+v", beside)
	}
	const rows = `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
	answers := func(base, model string, want int) exchange {
		t.Helper()
		var e exchange
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // nodes learn of it in moments
			if e = infer(t, "POST", base+"/v2/models/"+model+"/infer", []byte(rows), "Content-Type", "application/json"); e.StatusCode == want {
				return e
			}
		}
		t.Fatalf("%s: %d %s, want %d", model, e.StatusCode, e.body, want)
		return e
	}
	first := answers(base, "fresh", 200)
	if got := answers(base, "iris/versions/3", 200); !strings.Contains(string(got.body), `"model_version":"3"`) {
		t.Errorf("%s", got.body)
	}
	if e := infer(t, "GET", base+"/v2/models/fresh", nil); e.StatusCode != 200 || !strings.Contains(string(e.body), `"shape":[-1,4]`) {
		t.Errorf("%d %s", e.StatusCode, e.body)
	}
	if e := infer(t, "PUT", base+"/v1/models/fresh/aliases/champion", []byte(`{"version":"1"}`), "Content-Type", "application/json", "If-None-Match", "*"); e.StatusCode/100 != 2 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	if e := infer(t, "DELETE", base+v.URLs.Self, nil, "If-Match", "*"); e.StatusCode != 409 || !strings.Contains(string(e.body), "the alias champion names it") {
		t.Errorf("under an alias: %d %s", e.StatusCode, e.body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a, _ = startApp(t, flags...)
	base = "http://" + a.http.Addr()
	again := infer(t, "POST", base+"/v2/models/fresh/infer", []byte(rows), "Content-Type", "application/json") // it is there from the start
	if output := func(e exchange) string { _, o, _ := strings.Cut(string(e.body), `"outputs"`); return o }; output(again) != output(first) || output(first) == "" {
		t.Errorf("after a restart: %d %s, before %s", again.StatusCode, again.body, first.body)
	}
	if e := infer(t, "DELETE", base+"/v1/models/fresh/aliases/champion", nil, "If-Match", "*"); e.StatusCode/100 != 2 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	if e := infer(t, "DELETE", base+v.URLs.Self, nil, "If-Match", "*"); e.StatusCode != 204 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	answers(base, "fresh", 404)
	if e := infer(t, "POST", base+v.URLs.Self+"/restore", nil); e.StatusCode != 200 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	answers(base, "fresh", 200)
}

// A version stays while a durable prediction or a batch of any tenant is to be run
// by it, whether a client or an experiment has named it.
func TestAwaited(t *testing.T) {
	a, _ := startApp(t)
	far := time.Now().Add(time.Hour) // when somebody looks after them
	write(t, a, access.DefaultTenant, func(ctx context.Context, tx *repo.Tx) error {
		for _, p := range []job.Prediction{
			{Model: "m", Version: "1", Status: job.Queued}, {Model: "m", Status: job.Running, Arm: job.Arm{Version: "2"}},
			{Model: "m", Version: "3", Status: job.Succeeded}, {Model: "other", Version: "4", Status: job.Queued},
		} {
			p.ID, p.Due = repo.NewID[job.ID](tx, job.Prefix), far
			if err := job.Predictions.Add(ctx, tx, &p); err != nil {
				return err
			}
		}
		for _, b := range []batch.Batch{{Model: "m", ModelVersion: "5", Status: batch.Paused}, {Model: "m", ModelVersion: "6", Status: batch.Failed}} {
			b.ID, b.Due = repo.NewID[batch.ID](tx, batch.Prefix), far
			if err := batch.Batches.Add(ctx, tx, &b); err != nil {
				return err
			}
		}
		return nil
	})
	for number, want := range map[int64]string{1: "durable predictions", 2: "durable predictions", 3: "", 4: "", 5: "batches", 6: ""} {
		why, err := a.awaited(t.Context(), nil, "m", number)
		if err != nil || want == "" && why != "" || !strings.HasPrefix(why, want) {
			t.Errorf("version %d: %q %v, want %q", number, why, err, want)
		}
	}
}
