package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/internal/inference/evaluation/evaluationhttp"
	"sluice/internal/platform/web/download"
)

// loggedLookups is a folder with the model lookup, of which the log keeps all tensors.
func loggedLookups(t *testing.T) string {
	t.Helper()
	dir := lookups(t)
	if err := os.WriteFile(filepath.Join(dir, "lookup", "config.yaml"), []byte("version_policy: {all: true}\nparameters: {sluice.log: '{\"sample\":1,\"tenants\":[\"*\"]}'}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// evaluate asks for an evaluation of lookup, and returns it at its end.
func evaluate(t *testing.T, base, body string) evaluationhttp.Evaluation {
	t.Helper()
	asked := infer(t, http.MethodPost, base+"/v1/models/lookup/evaluations", []byte(body), "Content-Type", "application/json")
	if asked.StatusCode != http.StatusAccepted || asked.Header.Get("Location") == "" {
		t.Fatalf("%d %s", asked.StatusCode, asked.body)
	}
	return get(t, base+asked.Header.Get("Location"), func(e evaluationhttp.Evaluation) bool { return e.Status != "queued" && e.Status != "running" })
}

// What was asked before one request of a candidate is asked again: it is known how its
// answers differ, and the rows that do can be downloaded. Nothing of it is logged.
func TestEvaluations(t *testing.T) {
	a, _ := startApp(t, "--model-repository="+loggedLookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	if made := infer(t, http.MethodPut, base+"/v1/models/lookup/aliases/champion", []byte(`{"version":"1"}`), "If-None-Match", "*", "Content-Type", "application/json"); made.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	const asked = 5 // requests of four rows, of which the last has the value that candidates know differently
	for range asked {
		predict(t, "POST", base+"/v1/models/lookup:1/predictions", `{"inputs":[{"name":"x","shape":[4,1],"datatype":"INT64","data":[0,1,2,3]}]}`)
	}
	get(t, base+"/v1/prediction-log", func(p logPage) bool { return len(p.Data) == asked })
	for _, c := range []struct {
		candidate, baseline string
		rows, flips, errors int64
		worst               string
	}{
		{"1", "logged", 20, 0, 0, ""},
		{"2", "champion", 20, 0, 0, ""},
		{"4", "logged", 20, 5, 0, "3"},
		{"4", "1", 20, 5, 0, "3"},
		{"3", "logged", 20, 20, 20, ""}, // a request fails as a whole
	} {
		e := evaluate(t, base, fmt.Sprintf(`{"candidate":%q,"baseline":%q,"source":{"hours":1},"segment_by":["in/x"]}`, c.candidate, c.baseline))
		r := e.Result
		if e.Status != "completed" || r == nil || r.Rows != c.rows || r.Flips != c.flips || r.Errors != c.errors || *r.Rate != float64(c.flips)/float64(c.rows) || !(r.Low <= *r.Rate && *r.Rate <= r.High) {
			t.Fatalf("%s against %s: %+v %+v", c.candidate, c.baseline, e, r)
		}
		if c.worst != "" && (r.Segments[0].Values[0].Value != c.worst || r.Segments[0].Values[0].Flips != 5 || *r.Segments[0].Values[0].Rate != 1 || len(r.Segments[0].Values) != 4) {
			t.Errorf("%+v", r.Segments)
		}
		file := infer(t, http.MethodGet, base+e.URLs.Diff, nil)
		if file.StatusCode != http.StatusOK || strings.Count(string(file.body), "\n") != int(c.flips) || file.Header.Get("Repr-Digest") != download.Digest(e.Diff.SHA256) || file.Header.Get("Row-Count") != fmt.Sprint(c.flips) {
			t.Errorf("%d %s, %v", file.StatusCode, file.body, file.Header)
		}
		if c.flips == 5 {
			if !strings.Contains(string(file.body), `"row":3`) || !strings.Contains(string(file.body), `"baseline":{"y":[30]},"candidate":{"y":[31]}`) {
				t.Errorf("%s", file.body)
			}
			part := infer(t, http.MethodGet, base+e.URLs.Diff, nil, "Range", "bytes=0-7", "If-Range", file.Header.Get("ETag"))
			if part.StatusCode != http.StatusPartialContent || string(part.body) != `{"name":` {
				t.Errorf("%d %q", part.StatusCode, part.body)
			}
		}
		byName, byType := infer(t, http.MethodGet, base+e.URLs.Diff+"?format=csv", nil), infer(t, http.MethodGet, base+e.URLs.Diff, nil, "Accept", "text/csv, application/jsonl;q=0.5", "Range", "bytes=0-7")
		rows, err := csv.NewReader(bytes.NewReader(byName.body)).ReadAll()
		if err != nil || len(rows) != int(c.flips)+1 || byName.StatusCode != http.StatusOK || !strings.HasPrefix(byName.Header.Get("Content-Type"), "text/csv") || byName.Header.Get("Row-Count") != fmt.Sprint(c.flips) ||
			byType.StatusCode != http.StatusOK || !bytes.Equal(byName.body, byType.body) {
			t.Errorf("%v, %d %s %v, %d %s", err, byName.StatusCode, byName.body, byName.Header, byType.StatusCode, byType.body)
		}
		if c.flips == 5 && (rows[0][3] != "segment/in/x" || rows[1][1] != "3" || rows[1][3] != "3" || !slices.Equal(rows[1][len(rows[1])-2:], []string{"30", "31"})) {
			t.Errorf("%q", rows)
		}
	}
	if page := get(t, base+"/v1/prediction-log", func(logPage) bool { return true }); len(page.Data) != asked {
		t.Errorf("%d entries: what was asked again is logged", len(page.Data))
	}
	if got := infer(t, http.MethodPost, base+"/v1/models/lookup/evaluations", []byte(`{"candidate":"9","source":{"hours":1}}`), "Content-Type", "application/json"); got.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, http.MethodPost, base+"/v1/models/lookup/evaluations", []byte(`{"candidate":"1","source":{"hours":1},"segment_by":["country"]}`), "Content-Type", "application/json"); got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(got.body), "segment_by") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	get(t, base+"/v1/events?after=earliest&limit=500&kind=evaluations", func(p struct{ Data []map[string]any }) bool {
		return strings.Count(fmt.Sprint(p.Data), "evaluation.completed") == 5
	})
	get(t, base+"/v1/audit-entries?limit=500&filter=action:eq:evaluations.download", func(p struct{ Data []map[string]any }) bool { return len(p.Data) >= 15 })
}

// The rows of a file are asked, too: each has its name, and columns tell segments apart.
func TestEvaluationOfUpload(t *testing.T) {
	a, _ := startApp(t, "--model-repository="+lookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	u := infer(t, http.MethodPost, base+"/v1/uploads", []byte(`{"content_type":"text/csv"}`), "Content-Type", "application/json")
	var made struct{ ID string }
	if err := json.Unmarshal(u.body, &made); err != nil || u.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", u.StatusCode, u.body)
	}
	rows := []byte("id,x,country\na,3,de\nb,2,de\nc,none,fr\nd,3,fr\n")
	if got := infer(t, http.MethodPatch, base+"/v1/uploads/"+made.ID, rows, "Content-Type", "application/partial-upload", "Upload-Offset", "0", "Upload-Complete", "?1"); got.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	e := evaluate(t, base, fmt.Sprintf(`{"candidate":"4","baseline":"1","source":{"upload_id":%q,"row_id":"id"},"segment_by":["country","in/x"]}`, made.ID))
	r := e.Result
	if e.Status != "completed" || e.Source.UploadID != made.ID || r.Rows != 3 || r.Flips != 2 || r.Skipped["row_invalid"] != 1 {
		t.Fatalf("%+v %+v", e, r)
	}
	if s := r.Segments[0]; s.By != "country" || s.Values[0].Value != "fr" || *s.Values[0].Rate != 1 || *s.Values[1].Rate != 0.5 {
		t.Errorf("%+v", s)
	}
	if file := infer(t, http.MethodGet, base+e.URLs.Diff, nil); !strings.Contains(string(file.body), `{"name":"a","row":0,"segments":{"country":"de","in/x":"3"}`) || strings.Count(string(file.body), "\n") != 2 {
		t.Errorf("%s", file.body)
	}
	for source, code := range map[string]string{
		`{"upload_id":"` + made.ID + `","hours":1}`:                   "evaluation_invalid",
		`{"upload_id":"` + made.ID + `","columns":{"z":["x"]}}`:       "columns_invalid",
		`{"upload_id":"` + made.ID + `","columns":{"x":["country"]}}`: "rows_invalid_file",
	} {
		if got := infer(t, http.MethodPost, base+"/v1/models/lookup/evaluations", []byte(`{"candidate":"4","baseline":"1","source":`+source+`}`), "Content-Type", "application/json"); !strings.Contains(string(got.body), code) {
			t.Errorf("%s: %d %s", source, got.StatusCode, got.body)
		}
	}
	if got := infer(t, http.MethodPost, base+"/v1/models/lookup/evaluations", []byte(`{"candidate":"4","source":{"upload_id":"`+made.ID+`"}}`), "Content-Type", "application/json"); got.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

// A release that begins with an evaluation gives its candidate no request before that has
// passed, and goes back where it does not; its decision replays to the same verdict.
func TestReleaseWaitsForItsEvaluation(t *testing.T) {
	a, _ := startApp(t, "--model-repository="+loggedLookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	if made := infer(t, http.MethodPut, base+"/v1/models/lookup/aliases/champion", []byte(`{"version":"1"}`), "If-None-Match", "*", "Content-Type", "application/json"); made.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	for range 5 { // each value has as many rows as a segment takes
		predict(t, "POST", base+"/v1/models/lookup/predictions", `{"inputs":[{"name":"x","shape":[24,1],"datatype":"INT64","data":[0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3]}]}`)
	}
	get(t, base+"/v1/prediction-log", func(p logPage) bool { return len(p.Data) == 5 })
	type release struct {
		ID, Status, Reason string
		Step               int
		Weight             int
		Steps              []struct {
			Name   string
			Replay *struct{ Evaluation string }
		}
	}
	type events struct {
		Data []struct {
			Type string
			Data map[string]any
		}
	}
	for _, c := range []struct {
		candidate, gate, status, reason string
	}{
		{"4", `"max_flip_rate":0.2,"min_rows":120`, "rolled_back", "replay: 30 of 120 rows"},
		{"4", `"max_flip_rate":0.3,"max_segment_flip_rate":0.5,"min_rows":120,"segment_by":["in/x"]`, "rolled_back", "in a segment by in/x 30 of 30 rows"},
		{"2", `"max_flip_rate":0,"min_rows":121`, "rolled_back", "of the 121 rows that are needed"},
		{"2", `"max_flip_rate":0,"max_segment_flip_rate":0,"min_rows":120,"segment_by":["in/x"]`, "running", ""},
	} {
		made := infer(t, http.MethodPost, base+"/v1/releases", fmt.Appendf(nil, `{"model":"lookup","candidate":%q,"replay":{"source":{"hours":1},%s},
			"steps":[{"name":"first","weight":2500,"policy":{"alpha":0.05,"min_requests":1000000,"error_rate":{"worse":0.2}}}]}`, c.candidate, c.gate), "Content-Type", "application/json")
		if made.StatusCode != http.StatusCreated {
			t.Fatalf("%d %s", made.StatusCode, made.body)
		}
		self := base + made.Header.Get("Location")
		r := get(t, self, func(r release) bool {
			if r.Status == "running" && r.Weight != 0 && r.Step == 0 {
				t.Errorf("the candidate has requests while its answers are not known: %+v", r)
			}
			return r.Status != "running" || r.Step == 1
		})
		if r.Status == "running" && r.Weight != 2500 {
			t.Errorf("it has passed, and has no requests: %+v", r)
		}
		if r.Status != c.status || !strings.Contains(r.Reason, c.reason) || len(r.Steps) != 2 || r.Steps[0].Name != "replay" || r.Steps[0].Replay == nil {
			t.Errorf("%+v", r)
		}
		happened := get(t, self+"/events", func(events) bool { return true })
		if judged := fmt.Sprint(happened.Data[1].Data); happened.Data[1].Type != "release.judged" && !strings.Contains(judged, "undecided") || !strings.Contains(fmt.Sprint(happened.Data), r.Steps[0].Replay.Evaluation) ||
			strings.Contains(fmt.Sprint(happened.Data), "tenant:") || strings.Contains(fmt.Sprint(happened.Data)+r.Reason, "x=3") {
			t.Errorf("%+v", happened)
		}
		get(t, self+"/replay", func(r struct{ Holds bool }) bool { return r.Holds })
		if c.status == "running" {
			if got := infer(t, http.MethodPost, self+"/rollback", []byte(`{}`), "Content-Type", "application/json", "If-Match", "*"); got.StatusCode != http.StatusOK {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
		}
		// Its alias is free once whoever drives releases has seen that it is over.
		get(t, base+"/v1/models/lookup/aliases/champion", func(a map[string]any) bool { return a["holder"] == nil && a["held_by"] == nil && a["release"] == nil })
	}
	for body, code := range map[string]string{
		`{"model":"lookup","candidate":"2","replay":{"source":{},"max_flip_rate":0,"min_rows":1},"steps":[{"name":"first","weight":2500,"policy":{"alpha":0.05,"min_requests":1,"error_rate":{"worse":0.2}}}]}`:          "evaluation_invalid",
		`{"model":"lookup","candidate":"2","steps":[{"name":"first","weight":2500,"policy":{"alpha":0.05,"min_requests":1,"replay":{"max_flip_rate":0,"min_rows":1}}}]}`:                                                 "release_invalid",
		`{"model":"lookup","candidate":"2","replay":{"source":{"hours":1},"max_flip_rate":2,"min_rows":1},"steps":[{"name":"first","weight":2500,"policy":{"alpha":0.05,"min_requests":1,"error_rate":{"worse":0.2}}}]}`: "max_flip_rate",
	} {
		if got := infer(t, http.MethodPost, base+"/v1/releases", []byte(body), "Content-Type", "application/json"); got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(got.body), code) {
			t.Errorf("%s: %d %s", body, got.StatusCode, got.body)
		}
	}
}
