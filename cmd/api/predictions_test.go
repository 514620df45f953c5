package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	predictions "sluice/internal/inference/api"
)

// prediction is what the native API answers.
type prediction struct {
	ID, Model, Version string
	Status             statusText
	Code               string // of a problem
	Errors             []struct{ Pointer, Code string }
	OutputURL          string          `json:"output_url"`
	ClientRef          string          `json:"client_ref"`
	InputDigest        string          `json:"input_digest"`
	Started            json.RawMessage `json:"started_at"`
	URLs               map[string]string
	Output             struct {
		Outputs []struct {
			Name string
			Data []float64
		}
	}
	Attempts int
}

// statusText is a prediction's status, or a problem's.
type statusText string

// UnmarshalJSON takes a text and a number.
func (s *statusText) UnmarshalJSON(text []byte) error {
	*s = statusText(strings.Trim(string(text), `"`))
	return nil
}

func (p prediction) labels() (labels []float64) {
	for _, o := range p.Output.Outputs {
		if o.Name == "label" {
			labels = o.Data
		}
	}
	return labels
}

func predict(t *testing.T, method, url, body string, headers ...string) (prediction, *http.Response) {
	t.Helper()
	e := infer(t, method, url, []byte(body), append([]string{"Content-Type", "application/json"}, headers...)...)
	return e.decode(t), e.Response
}

const iris = `{"rows":[{"input":[5.1,3.5,1.4,0.2]},{"input":[6.9,3.1,5.4,2.1]}]}`

func TestNativePredictions(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr() + "/v1"
	url := base + "/models/iris/predictions"

	at, resp := predict(t, "POST", url, iris)
	if resp.StatusCode != 200 || at.Status != "succeeded" || at.ID != resp.Header.Get("Prediction-Id") || at.ID == "" || at.InputDigest == "" || at.URLs["feedback"] != "/v1/feedback" || at.URLs["self"] != "" || string(at.Started) == "null" || fmt.Sprint(at.labels()) != "[0 2]" || resp.Header.Get("Model-Version") != "2" || !strings.Contains(resp.Header.Get("Server-Timing"), "infer;dur=") {
		t.Errorf("at once: %d %+v %v", resp.StatusCode, at, resp.Header)
	}
	waited, resp := predict(t, "POST", url, iris, "Prefer", "wait=20")
	if resp.StatusCode != 200 || waited.Status != "succeeded" || waited.ID == "" || fmt.Sprint(waited.labels()) != "[0 2]" || resp.Header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("waited: %d %+v %v", resp.StatusCode, waited, resp.Header)
	}
	for _, tc := range []struct{ body, want string }{{iris, "theirs"}, {`{"client_ref":"mine",` + iris[1:], "mine"}} {
		if p, resp := predict(t, "POST", url, tc.body, "Prefer", "wait=20", "Inference-Id", "theirs"); p.ClientRef != tc.want {
			t.Errorf("named %s: %d %+v", tc.want, resp.StatusCode, p)
		}
	}
	async, resp := predict(t, "POST", url, iris, "Prefer", "respond-async", "Idempotency-Key", "k1")
	location := resp.Header.Get("Location")
	if string(async.Started) != "null" || async.InputDigest != at.InputDigest || async.URLs["feedback"] != "/v1/feedback" {
		t.Errorf("accepted: %+v", async)
	}
	if resp.StatusCode != 202 || location != "/v1/predictions/"+async.ID || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Prediction-Id") != async.ID {
		t.Errorf("accepted: %d %+v %v", resp.StatusCode, async, resp.Header)
	}
	again, resp := predict(t, "POST", url, iris, "Prefer", "respond-async", "Idempotency-Key", "k1")
	if again.ID != async.ID || resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %+v", again)
	}
	done, resp := predict(t, "GET", "http://"+a.http.Addr()+location+"?wait=20", "")
	if done.Status != "succeeded" || fmt.Sprint(done.labels()) != "[0 2]" || resp.Header.Get("ETag") == "" || !strings.Contains(resp.Header.Get("Server-Timing"), "queue;dur=") {
		t.Errorf("done: %d %+v", resp.StatusCode, done)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+a.http.Addr()+location, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("If-None-Match", resp.Header.Get("ETag"))
	unchanged, err := http.DefaultClient.Do(r)
	if err != nil || unchanged.StatusCode != 304 {
		t.Errorf("unchanged: %v, %v", unchanged.StatusCode, err)
	}
	unchanged.Body.Close()
	if p, resp := predict(t, "POST", base+"/predictions/"+async.ID+"/cancel", ""); resp.StatusCode != 200 || p.Status != "succeeded" {
		t.Errorf("cancelled too late: %d %+v", resp.StatusCode, p)
	}
	for name, tc := range map[string]struct {
		url, body, prefer string
		status            int
		code              string
	}{
		"no such model":   {base + "/models/none/predictions", iris, "", 404, "model_not_found"},
		"no such version": {base + "/models/iris:9/predictions", iris, "respond-async", 404, "version_not_found"},
		"nothing":         {url, `{}`, "", 422, "inputs_missing"},
		"wrong rows":      {url, `{"rows":[{"input":[1]}]}`, "respond-async", 422, "rows_invalid"},
		"wrong tensor":    {url, `{"inputs":[{"name":"input","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}`, "", 400, "invalid"},
		"impatient":       {url, iris, "wait=0", 400, "prefer_invalid"},
		"at once, late":   {url, `{"deadline_at":"2020-01-01T00:00:00Z",` + iris[1:], "", 422, "prediction_deadline_passed"},
		"too late":        {url, `{"deadline_at":"2020-01-01T00:00:00Z",` + iris[1:], "respond-async", 422, "prediction_deadline_passed"},
	} {
		if p, resp := predict(t, "POST", tc.url, tc.body, "Prefer", tc.prefer); resp.StatusCode != tc.status || p.Code != tc.code {
			t.Errorf("%s: %d %s", name, resp.StatusCode, p.Code)
		}
	}
	for _, headers := range [][]string{{"Cancel-After", "soon"}, {"Cancel-After", "soon", "Prefer", "respond-async"}} {
		if p, resp := predict(t, "POST", url, iris, headers...); resp.StatusCode != 400 || p.Code != "cancel_after_invalid" {
			t.Errorf("%v: %d %s", headers, resp.StatusCode, p.Code)
		}
	}
	for _, path := range []string{"/predictions/" + async.ID[:len(async.ID)-1] + "x/events", "/batches/batch_1/events", "/models/irs/predictions/events", "/models/iris:2/predictions/events"} {
		if p, resp := predict(t, "GET", base+path, ""); resp.StatusCode != 404 || p.Code == "" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, p.Code)
		}
	}
	failed, _ := predict(t, "POST", url, `{"inputs":[{"name":"input","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}`, "Prefer", "wait=20")
	if failed.Status != "failed" || failed.Attempts != 1 {
		t.Errorf("a wrong tensor, durably: %+v", failed)
	}
	get(t, base+"/prediction-log?id="+failed.ID, func(p logPage) bool { return len(p.Data) == 1 && p.Data[0].Outcome == "invalid" })
}

// The sample models that work step by step do so in the program as it is.
func TestSampleModelsStepByStep(t *testing.T) {
	a, _ := startApp(t, "--models=writer,nextchar")
	base := "http://" + a.http.Addr()
	var written string
	events := streamed(t, base+"/v1/models/writer/predictions", `{"client_ref":"told","rows":[{"text":["T","h","e"," "],"temperature":0.1,"seed":1}],"outputs":[{"name":"next"}],"parameters":{"max_steps":12}}`)
	_, id, _ := strings.Cut(events, `"prediction_id":"`)
	id, _, _ = strings.Cut(id, `"`)
	get(t, base+"/v1/prediction-log?client_ref=told", func(p logPage) bool { return len(p.Data) == 1 && p.Data[0].ID == id && p.Data[0].Steps == 12 })
	for header, want := range map[string]int{"1ns": 422, "1ms": 504, "x": 400} {
		got := infer(t, "POST", base+"/v1/models/writer/predictions", []byte(`{"rows":[{"text":["T"],"temperature":0.1,"seed":1}]}`), "Content-Type", "application/json", "Accept", "text/event-stream", "Cancel-After", header)
		late := got.StatusCode == 504 && want == 422
		if want == 504 { // or it is refused beforehand, or has begun and ends as an error
			late = strings.Contains(string(got.body), "overloaded") || strings.Contains(string(got.body), "event: error")
		}
		if got.StatusCode != want && !late {
			t.Errorf("as events, Cancel-After %s: %d %s", header, got.StatusCode, got.body)
		}
	}
	for _, line := range strings.Split(events, "\n") {
		if _, text, ok := strings.Cut(line, `"data":["`); ok {
			written += text[:1]
		}
	}
	if len(written) != 12 || strings.Trim(written, "abcdefghijklmnopqrstuvwxyz _") != "" {
		t.Errorf("writer wrote %q", written)
	}
	c, _, err := websocket.Dial(t.Context(), "ws://"+a.http.Addr()+"/v1/models/nextchar/stream", &websocket.DialOptions{Subprotocols: []string{predictions.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for _, char := range "funct" {
		if err := c.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"input","rows":[{"char":"%c"}],"outputs":[{"name":"next"}]}`, char)); err != nil {
			t.Fatal(err)
		}
	}
	var last []byte
	for range 6 { // the first one says that it is open
		if _, last, err = c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(last), `"data":["i"]`) {
		t.Errorf("behind funct comes %s", last)
	}
	if p, resp := predict(t, "POST", base+"/v1/models/writer/predictions", `{"rows":[{"text":["T"],"temperature":0.1,"seed":1}]}`, "Prefer", "respond-async"); resp.StatusCode != 501 || p.Code != "stream_needed" {
		t.Errorf("durably: %d %s", resp.StatusCode, p.Code)
	}
	const inputs = `{"inputs":[{"name":"char","datatype":"BYTES","shape":[1,1],"data":["f"]}]}`
	if got := infer(t, "POST", base+"/v2/models/nextchar/infer", []byte(inputs), "Content-Type", "application/json", "Prefer", "respond-async"); got.StatusCode != 501 || !strings.Contains(string(got.body), "step by step") {
		t.Errorf("durably, by the protocol: %d %s", got.StatusCode, got.body)
	}
}

// streamed returns the whole answer to a request for events.
func streamed(t *testing.T, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s %v", resp.StatusCode, text, err)
	}
	return string(text)
}

// A large prediction's input and output are objects; its output is read apart.
func TestLargePrediction(t *testing.T) {
	a, _ := startApp(t, "--models=identity_fp32")
	base := "http://" + a.http.Addr() + "/v1"
	values := strings.Repeat("1.25,", 1<<15) + "2"
	p, resp := predict(t, "POST", base+"/models/identity_fp32/predictions",
		fmt.Sprintf(`{"inputs":[{"name":"input","shape":[1,%d],"datatype":"FP32","data":[%s]}]}`, 1<<15+1, values), "Prefer", "wait=30")
	if resp.StatusCode != 200 || p.Status != "succeeded" || p.OutputURL == "" {
		t.Fatalf("%d %+v", resp.StatusCode, p)
	}
	status, text := fetch(t, "GET", "http://"+a.http.Addr()+p.OutputURL, "")
	if status != 200 || strings.Count(text, "1.25") != 1<<15 {
		t.Errorf("%d, %d bytes", status, len(text))
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+a.http.Addr()+p.OutputURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=1000-1099")
	resp, err = http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	part, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 206 || string(part) != text[1000:1100] || resp.Header.Get("ETag") == "" || !strings.HasPrefix(resp.Header.Get("Repr-Digest"), "sha-256=:") {
		t.Errorf("%d %v, %q, %v", resp.StatusCode, resp.Header, part, err)
	}
	r.Header.Set("Range", "bytes=9000000-")
	if resp, err = http.DefaultClient.Do(r); err != nil || resp.StatusCode != 416 || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(text)) {
		t.Errorf("beyond: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// Durable predictions that were accepted before a stop are answered after it.
func TestPredictionsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	a, stop := startApp(t, "--data-dir="+dir)
	url := "http://" + a.http.Addr() + "/v1/models/iris/predictions"
	var mu sync.Mutex
	var ids []string
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				p, resp := predict(t, "POST", url, iris, "Prefer", "respond-async")
				if resp.StatusCode != 202 && resp.StatusCode != 200 {
					t.Errorf("%d %+v", resp.StatusCode, p)
				}
				mu.Lock()
				ids = append(ids, p.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b, _ := startApp(t, "--data-dir="+dir)
	deadline := time.Now().Add(30 * time.Second)
	for _, id := range ids {
		p, _ := predict(t, "GET", "http://"+b.http.Addr()+"/v1/predictions/"+id+"?wait=20", "")
		if p.Status != "succeeded" || fmt.Sprint(p.labels()) != "[0 2]" || time.Now().After(deadline) {
			t.Fatalf("%+v", p)
		}
	}
}
