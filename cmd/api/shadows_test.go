package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/internal/inference/oip/oippb"
)

// asked is a way to ask the model lookup for the value of 3: it returns the version
// that answered.
type asked func() (version string)

// waysToLookUp are all protocols.
func waysToLookUp(t *testing.T, a *app) map[string]asked {
	t.Helper()
	base := "http://" + a.http.Addr()
	conn, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	post := func(path, field string, body []byte, headers ...string) string {
		got := infer(t, http.MethodPost, base+path, body, headers...)
		var answer map[string]any
		head := got.body
		if n, err := strconv.Atoi(got.Header.Get("Inference-Header-Content-Length")); err == nil {
			head = head[:n]
		}
		if err := json.Unmarshal(head, &answer); err != nil || got.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %q, %v", path, got.StatusCode, got.body, err)
		}
		return fmt.Sprint(answer[field])
	}
	three := binary.LittleEndian.AppendUint64(nil, 3)
	header := []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","parameters":{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}`)
	return map[string]asked{
		"JSON": func() string {
			return post("/v2/models/lookup/infer", "model_version", []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[3]}]}`))
		},
		"binary": func() string {
			return post("/v2/models/lookup/infer", "model_version", append(header[:len(header):len(header)], three...), "Inference-Header-Content-Length", strconv.Itoa(len(header)))
		},
		"native": func() string {
			return post("/v1/models/lookup/predictions", "version", []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[3]}]}`), "Content-Type", "application/json")
		},
		"gRPC": func() string {
			got, err := oippb.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), &oippb.ModelInferRequest{ModelName: "lookup", RawInputContents: [][]byte{three},
				Inputs: []*oippb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "INT64", Shape: []int64{1, 1}}}})
			if err != nil {
				t.Fatal(err)
			}
			return got.ModelVersion
		},
	}
}

// shown is a shadow as the API shows it.
type shownShadow struct {
	Compared, Failed, Rows int64
	Differ                 int64 `json:"rows_that_differ"`
	Worst                  []struct {
		Champion string `json:"champion_prediction"`
		Shadow   string `json:"shadow_prediction"`
		Distance float64
	}
}

// A release begins with a shadow: whichever way requests come, the champion answers
// them and the candidate is given copies, whose answers decide. What it answered is in
// the log, and counts for nobody.
func TestShadowsDecide(t *testing.T) {
	a, _ := startApp(t, "--model-repository="+lookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	if made := infer(t, http.MethodPut, base+"/v1/models/lookup/aliases/champion", []byte(`{"version":"1"}`), "If-None-Match", "*", "Content-Type", "application/json"); made.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	ways := waysToLookUp(t, a)
	for _, c := range []struct {
		candidate, status, guardrail string
	}{{"4", "rolled_back", "agreement"}, {"3", "rolled_back", "error_rate"}, {"2", "promoted", ""}} {
		made := infer(t, http.MethodPost, base+"/v1/releases", fmt.Appendf(nil, `{"model":"lookup","candidate":%q,"steps":[
			{"name":"shadow","weight":0,"shadow":{"compare":"values"},"policy":{"alpha":0.05,"min_requests":30,"agreement":{"max_flips":0.2},"error_rate":{"worse":0.3}}},
			{"name":"half","weight":5000,"policy":{"alpha":0.05,"min_requests":20,"error_rate":{"worse":0.4}}}]}`, c.candidate), "Content-Type", "application/json")
		var r struct {
			ID, Status, Reason string
			Step               int
		}
		if err := json.Unmarshal(made.body, &r); err != nil || made.StatusCode != http.StatusCreated {
			t.Fatalf("%d %s, %v", made.StatusCode, made.body, err)
		}
		read := func() {
			_, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID, "")
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(text)
			}
		}
		for deadline := time.Now().Add(60 * time.Second); r.Status == "running"; read() {
			for name, ask := range ways {
				if version := ask(); version != "1" && (r.Step == 0 && c.candidate != "2" || version != c.candidate) {
					t.Errorf("by %s version %s answers in the step %d of the release of %s", name, version, r.Step, c.candidate)
				}
			}
			if time.Now().After(deadline) {
				_, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID+"/steps/0/shadow", "")
				t.Fatalf("it has come to nothing: %+v, %s", r, text)
			}
		}
		if r.Status != c.status || !strings.Contains(r.Reason, c.guardrail) {
			t.Errorf("the release of %s is %s: %q", c.candidate, r.Status, r.Reason)
		}
		_, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID+"/steps/0/shadow", "")
		var s shownShadow
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Compared+s.Failed == 0 || (c.guardrail == "error_rate") != (s.Failed > 0) ||
			(c.guardrail == "agreement") != (s.Differ > 0) || s.Rows != s.Compared || len(s.Worst) > 0 != (s.Differ > 0) {
			t.Errorf("the shadow %s: %s, %v", c.candidate, text, err)
		}
		if len(s.Worst) > 0 {
			logged(t, base, s.Worst[0].Champion, "1", false)
			logged(t, base, s.Worst[0].Shadow, c.candidate, true)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			_, text := fetch(t, http.MethodGet, base+"/v1/models/lookup/aliases/champion", "")
			if !strings.Contains(text, "held_by") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the alias is still held: %s", text)
			}
		}
		if _, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID+"/replay", ""); !strings.Contains(text, `"holds":true`) {
			t.Errorf("replayed: %s", text)
		}
	}
}

// logged expects a prediction in the log.
func logged(t *testing.T, base, id, version string, shadow bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, text := fetch(t, http.MethodGet, base+"/v1/prediction-log?id="+id, "")
		if strings.Contains(text, id) {
			if !strings.Contains(text, `"version":"`+version+`"`) || strings.Contains(text, `"mode":"shadow"`) != shadow {
				t.Errorf("%s: %s", id, text)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not in the log: %d %s", id, status, text)
		}
	}
}
