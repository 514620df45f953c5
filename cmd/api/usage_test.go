package main

import (
	"encoding/json"
	"testing"
	"time"
)

// What the models have done is reported, whichever way they were asked.
func TestUsageIsReported(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	for range 2 {
		if p, resp := predict(t, "POST", base+"/v1/models/iris/predictions", iris); resp.StatusCode != 200 {
			t.Fatalf("%+v", p)
		}
	}
	if status, text := fetch(t, "POST", base+"/v2/models/iris/infer", `{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`); status != 200 {
		t.Fatal(text)
	}
	if p, resp := predict(t, "POST", base+"/v1/models/iris/predictions", iris, "Prefer", "wait=20"); resp.StatusCode != 200 {
		t.Fatalf("%+v", p)
	}
	if err := a.meter.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	type amount struct {
		Mode                      string
		Requests, Succeeded, Rows int64
		InputBytes                int64   `json:"input_bytes"`
		ComputeMS                 float64 `json:"compute_ms"`
	}
	var report struct {
		Data  []amount
		Total amount
	}
	for deadline := time.Now().Add(20 * time.Second); report.Total.Requests < 4 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		status, text := fetch(t, "GET", base+"/v1/usage?group_by=model,mode", "")
		if err := json.Unmarshal([]byte(text), &report); err != nil || status != 200 {
			t.Fatalf("%d %s, %v", status, text, err)
		}
	}
	if len(report.Data) != 2 || report.Total.ComputeMS <= 0 {
		t.Fatalf("got %+v", report)
	}
	durable, online := report.Data[0], report.Data[1]
	if durable.Mode != "durable" || durable.Requests != 1 || durable.Succeeded != 1 || durable.Rows != 2 || durable.InputBytes != 2*16 {
		t.Errorf("durable: %+v", durable)
	}
	if online.Mode != "online" || online.Requests != 3 || online.Rows != 5 || online.InputBytes != 5*16 {
		t.Errorf("online: %+v", online)
	}
	for _, query := range []string{"from=x", "from=2026-01-01T00:00:00Z&to=2025-01-01T00:00:00Z", "from=2026-01-01T00:30:00Z"} {
		if status, text := fetch(t, "GET", base+"/v1/usage?"+query, ""); status != 400 {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
}
