package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/record/recordhttp"
)

// get reads JSON, again and again until it is as wanted.
func get[T any](t *testing.T, url string, done func(T) bool) (out T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, text := fetch(t, "GET", url, "")
		var now T
		if err := json.Unmarshal([]byte(text), &now); err != nil || status != http.StatusOK {
			t.Fatalf("GET %s: %d %s, %v", url, status, text, err)
		}
		if done(now) {
			return now
		}
		if time.Now().After(deadline) {
			t.Fatalf("GET %s: still %s", url, text)
		}
	}
}

type logPage struct {
	Data       []recordhttp.Entry
	NextCursor string `json:"next_cursor"`
	HasMore    bool   `json:"has_more"`
}

// Whatever way a prediction is asked for, it is logged under the id that its
// client was told.
func TestPredictionsAreLogged(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	const named = `{"client_ref":"mine","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
	_, native := predict(t, "POST", base+"/v1/models/iris/predictions", named)
	protocol := infer(t, "POST", base+"/v2/models/iris/infer", []byte(`{"id":"theirs","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`))
	durable, _ := predict(t, "POST", base+"/v1/models/iris/predictions", named, "Prefer", "wait=20")
	if status, text := fetch(t, "POST", base+"/v2/models/iris/infer", `{"inputs":[]}`); status != 400 {
		t.Fatalf("%d %s", status, text)
	}
	want := map[string]string{native.Header.Get("Prediction-Id"): "mine", protocol.Header.Get("Prediction-Id"): "theirs", durable.ID: "mine", "": ""}
	page := get(t, base+"/v1/prediction-log", func(p logPage) bool { return len(p.Data) == 4 })
	for _, e := range page.Data {
		id := e.ID
		if e.Outcome == "invalid" {
			id = ""
		}
		ref, known := want[id]
		delete(want, id)
		if !known || e.ClientRef != ref || e.Model != "iris" || e.Version == "" || (e.Attempt == 1) != (id == durable.ID) || (e.Mode == "bulk") != (id == durable.ID) ||
			e.Latency.Total <= 0 || (e.Outcome == "succeeded") != (e.Rows == 1 && e.Code == "") {
			t.Errorf("%+v", e)
		}
	}
	first := get(t, base+"/v1/prediction-log?outcome=succeeded&client_ref=mine&limit=1", func(p logPage) bool { return p.HasMore })
	get(t, base+"/v1/prediction-log?outcome=succeeded&client_ref=mine&limit=1&cursor="+first.NextCursor, func(p logPage) bool { return !p.HasMore && len(p.Data) == 1 && p.Data[0].ID != first.Data[0].ID })
	get(t, base+"/v1/prediction-log?id="+durable.ID, func(p logPage) bool { return len(p.Data) == 1 && p.Data[0].ID == durable.ID })

	stats := get(t, base+"/v1/models/iris/statistics?group_by=version,mode", func(s recordhttp.Statistics) bool { return len(s.Data) == 2 })
	bulk, online := stats.Data[0], stats.Data[1]
	if bulk.Mode == "online" {
		bulk, online = online, bulk
	}
	if bulk.Requests != 1 || bulk.Succeeded != 1 || online.Requests != 3 || online.Succeeded != 2 || online.Invalid != 1 || *online.ErrorRate != 0 || online.Latency.P99 <= 0 || online.Version == "" {
		t.Errorf("%+v", stats)
	}
	for _, path := range []string{"/v1/prediction-log?id=x", "/v1/prediction-log?cursor=x", "/v1/prediction-log?from=x", "/v1/models/iris/statistics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"} {
		if status, text := fetch(t, "GET", base+path, ""); status != 400 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := fetch(t, "GET", base+"/v1/models/iris/statistics?group_by=version&from=2020-01-01T00:00:00Z", ""); status != 422 {
		t.Errorf("%d %s", status, text)
	}
}

// Labels are joined to predictions whichever way these are named, and come back as
// scores of the version that answered.
func TestFeedback(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	_, resp := predict(t, "POST", base+"/v1/models/iris/predictions", `{"client_ref":"mine","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`)
	id := resp.Header.Get("Prediction-Id")
	get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 })
	post := func(kind, body string) (int, string) {
		got := infer(t, "POST", base+"/v1/feedback", []byte(body), "Content-Type", kind)
		return got.StatusCode, string(got.body)
	}
	if status, text := post("application/json", `{"prediction_id":"`+id+`","label_name":"right","label":true}`); status != 200 || !strings.Contains(text, `"added"`) {
		t.Errorf("%d %s", status, text)
	}
	status, text := post("application/x-ndjson", `{"client_ref":"mine","label_name":"right","label":false}

{"client_ref":"nobody's","label":1}
{"client_ref":"mine","label":{}}
{"client_ref":"mine","label":"a text"}
{"client_ref":"mine","label":"a text"}
not JSON`)
	var report recordhttp.Report
	if err := json.Unmarshal([]byte(text), &report); err != nil || status != 200 {
		t.Fatalf("%d %s, %v", status, text, err)
	}
	if report.Lines != 6 || report.Replaced != 1 || report.Added != 1 || report.Unchanged != 1 || report.Rejected != 3 || len(report.Errors) != 3 {
		t.Errorf("%+v", report)
	}
	for _, e := range report.Errors {
		if want := map[int]string{3: "prediction_unknown", 4: "feedback_invalid", 7: "feedback_invalid"}[e.Line]; want != e.Code || e.Detail == "" {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	for body, want := range map[string]int{`{"prediction_id":"pred_0000000000007000a000000000000001","label":1}`: 404, `{"prediction_id":"pred_00000000000000000000000000000000","label":1}`: 400, `{"label":1}`: 400, `{"client_ref":"mine"}`: 400, `{"client_ref":"mine","label":1,"x":1}`: 400, `{"client_ref":"mine","score":1e300}`: 400} {
		if status, text := post("application/json", body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, text := post("text/plain", "x"); status != 415 {
		t.Errorf("%d %s", status, text)
	}
	stats := get(t, base+"/v1/models/iris/statistics", func(s recordhttp.Statistics) bool { return len(s.Data) == 1 })
	if l := stats.Data[0].Labels; len(l) != 1 || l[0].Name != "right" || l[0].Count != 1 || l[0].Mean != 0 {
		t.Errorf("%+v", l)
	}
}

// What was logged outlives the process, also what was logged just before its end.
func TestLogOutlivesTheProcess(t *testing.T) {
	dir := "--data-dir=" + t.TempDir()
	a, stop := startApp(t, dir)
	_, resp := predict(t, "POST", "http://"+a.http.Addr()+"/v1/models/iris/predictions", iris)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a, _ = startApp(t, dir)
	get(t, "http://"+a.http.Addr()+"/v1/prediction-log?id="+resp.Header.Get("Prediction-Id"), func(p logPage) bool { return len(p.Data) == 1 })
}

// Without a log predictions have no ids, and whoever asks for it is told.
func TestNoLog(t *testing.T) {
	a, _ := startApp(t, "--record-url=none")
	base := "http://" + a.http.Addr()
	if _, resp := predict(t, "POST", base+"/v1/models/iris/predictions", iris); resp.StatusCode != 200 || resp.Header.Get("Prediction-Id") != "" {
		t.Errorf("%+v", resp)
	}
	if status, text := fetch(t, "GET", base+"/v1/prediction-log", ""); status != 501 {
		t.Errorf("%d %s", status, text)
	}
}
