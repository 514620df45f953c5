package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/record/recordhttp"
)

// A release is judged by what turned out about its predictions, also about durable
// ones, which are logged with their arm; whoever looks at it sees the numbers.
func TestReleaseByQuality(t *testing.T) {
	for _, c := range []struct {
		name, status string
		wrong        int // of ten answers of the candidate
	}{{"as good", "promoted", 1}, {"worse", "rolled_back", 9}} {
		t.Run(c.name, func(t *testing.T) { releaseByQuality(t, c.wrong, c.status) })
	}
}

func releaseByQuality(t *testing.T, wrong int, status string) {
	a, _ := startApp(t, "--model-repository="+lookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	send := func(method, path, kind, body string, headers ...string) exchange {
		t.Helper()
		got := infer(t, method, base+path, []byte(body), append(headers, "Content-Type", kind)...)
		if got.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, got.StatusCode, got.body)
		}
		return got
	}
	send("PUT", "/v1/models/lookup/aliases/champion", "application/json", `{"version":"1"}`, "If-None-Match", "*")
	path := send("POST", "/v1/releases", "application/json", `{"model":"lookup","candidate":"2","steps":[{"name":"half","weight":5000,
		"policy":{"alpha":0.05,"min_requests":100,"quality":{"label":"right","worse":0.4,"min_labels":100}}}]}`).Header.Get("Location")
	const question = `{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[1]}]}`
	ask := func(i int, headers ...string) (id, arm string) {
		t.Helper()
		got := send("POST", "/v1/models/lookup/predictions", "application/json", question, append(headers, "Experiment-Unit", fmt.Sprint(i))...)
		if id = got.Header.Get("Prediction-Id"); id == "" {
			id = got.decode(t).ID
		}
		return id, got.Header.Get("Experiment-Arm")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, arm := ask(0); arm != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the release divides nothing")
		}
	}
	var labels strings.Builder
	of, durable := map[string]int{}, ""
	for i := range 400 {
		var headers []string
		if i%40 == 0 {
			headers = []string{"Prefer", "wait=20"}
		}
		id, arm := ask(i, headers...)
		if headers != nil {
			durable = id
			get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 && p.Data[0].Arm == arm && p.Data[0].Mode == "bulk" })
		}
		bad := 1
		if arm == "candidate" {
			bad = wrong
		}
		of[arm]++
		fmt.Fprintf(&labels, "{\"prediction_id\":%q,\"label_name\":\"right\",\"label\":%t}\n", id, of[arm]%10 >= bad)
	}
	get(t, base+"/v1/models/lookup/statistics", func(s recordhttp.Statistics) bool { return len(s.Data) == 1 && s.Data[0].Succeeded >= 401 })
	type numbers struct {
		Requests, Labels int64
	}
	type shown struct {
		Status  string
		Numbers *struct{ Champion, Candidate numbers }
	}
	get(t, base+path, func(r shown) bool { // else the labels may decide before all requests are counted
		return r.Numbers != nil && r.Numbers.Champion.Requests+r.Numbers.Candidate.Requests >= 400
	})
	report := send("POST", "/v1/feedback", "application/x-ndjson", labels.String())
	if !strings.Contains(string(report.body), `"added":400`) {
		t.Fatalf("%s", report.body)
	}
	end := get(t, base+path, func(r shown) bool { return r.Status != "running" })
	if n := end.Numbers; end.Status != status || n == nil || n.Champion.Labels+n.Candidate.Labels != 400 || n.Champion.Requests+n.Candidate.Requests < 400 {
		t.Errorf("%+v, %+v", end, end.Numbers)
	}
	_, text := fetch(t, http.MethodGet, base+path+"/replay", "")
	var replay struct{ Holds bool }
	if err := json.Unmarshal([]byte(text), &replay); err != nil || !replay.Holds {
		t.Errorf("replayed: %s", text)
	}
	get(t, base+"/v1/prediction-log?id="+durable, func(p logPage) bool {
		return len(p.Data) == 1 && strings.HasPrefix(path, "/v1/releases/"+p.Data[0].Experiment)
	})
}

// Over gRPC, too, an answer names its prediction.
func TestPredictionIDOverGRPC(t *testing.T) {
	a, _ := startApp(t)
	conn, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header metadata.MD
	_, err = oippb.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), &oippb.ModelInferRequest{ModelName: "iris",
		Inputs: []*oippb.ModelInferRequest_InferInputTensor{{Name: "input", Datatype: "FP32", Shape: []int64{1, 4}, Contents: &oippb.InferTensorContents{Fp32Contents: []float32{1, 2, 3, 4}}}}}, grpc.Header(&header))
	id := strings.Join(header.Get("prediction-id"), ",")
	if err != nil || id == "" || len(header.Get("experiment-arm")) > 0 {
		t.Fatalf("%v, %v", header, err)
	}
	get(t, "http://"+a.http.Addr()+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 && p.Data[0].ID == id })
}

// What a model's policy asks for is kept as it asks, shown to who may see it, and
// forgotten when somebody's data is erased.
func TestContentByPolicy(t *testing.T) {
	dir := lookups(t)
	config := filepath.Join(dir, "lookup", "config.yaml")
	const policy = "parameters: {sluice.log: '{\"sample\":1,\"tenants\":[\"*\"],\"redact\":[{\"tensor\":\"%s\",\"do\":\"mask\"}]}'}\n"
	if err := os.WriteFile(config, fmt.Appendf(nil, policy, "x"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, _ := startApp(t, "--model-repository="+dir, "--models=lookup")
	base := "http://" + a.http.Addr()
	ask := func(ref string, headers ...string) (id string) {
		t.Helper()
		p, resp := predict(t, "POST", base+"/v1/models/lookup/predictions", `{"client_ref":"`+ref+`","inputs":[{"name":"x","shape":[2,1],"datatype":"INT64","data":[1,2]}]}`, headers...)
		if id = resp.Header.Get("Prediction-Id"); id == "" {
			id = p.ID
		}
		get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 })
		return id
	}
	type page struct{ Data []recordhttp.Content }
	theirs, durable, other := ask("them"), ask("them", "Prefer", "wait=20"), ask("other")
	for _, id := range []string{theirs, durable, other} {
		p := get(t, base+"/v1/prediction-log/"+id+"/content", func(page) bool { return true })
		if len(p.Data) != 1 || len(p.Data[0].Inputs) != 1 || len(p.Data[0].Outputs) != 1 {
			t.Fatalf("%+v", p)
		}
		if in, out := p.Data[0].Inputs[0], p.Data[0].Outputs[0]; in.Name != "x" || fmt.Sprint(in.Data) != "[0 0]" || out.Name != "y" || fmt.Sprint(out.Data) != "[10 20]" || fmt.Sprint(out.Shape) != "[2 1]" {
			t.Errorf("%+v", p)
		}
	}
	got := infer(t, "POST", base+"/v1/prediction-log/erasures", []byte(`{"client_refs":["them"]}`), "Content-Type", "application/json")
	if got.StatusCode != http.StatusOK || !strings.Contains(string(got.body), `"entries":2`) {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	for id, want := range map[string]int{theirs: 404, durable: 404, other: 200, "pred_x": 400} {
		if status, text := fetch(t, "GET", base+"/v1/prediction-log/"+id+"/content", ""); status != want {
			t.Errorf("%s: %d %s, want %d", id, status, text, want)
		}
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, policy, "X"), 0o644); err != nil { // protects nothing
		t.Fatal(err)
	}
	if got := infer(t, "POST", base+"/v2/repository/models/lookup/load", nil); got.StatusCode < 400 || !strings.Contains(string(got.body), "sluice.log") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

// An experiment tells what was measured of its arms.
func TestExperimentNumbers(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	infer(t, "PUT", base+"/v1/models/iris/aliases/champion", []byte(`{"version":"1"}`), "If-None-Match", "*", "Content-Type", "application/json")
	made := infer(t, "POST", base+"/v1/experiments", []byte(`{"model":"iris","arms":[{"name":"old","version":"1","weight":5000},{"name":"new","version":"2","weight":5000}]}`), "Content-Type", "application/json")
	path := made.Header.Get("Location")
	served := 0
	for deadline := time.Now().Add(20 * time.Second); served < 50; {
		id := ""
		_, resp := predict(t, "POST", base+"/v1/models/iris/predictions", iris)
		if resp.Header.Get("Experiment-Arm") != "" {
			served++
			id = resp.Header.Get("Prediction-Id")
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests had an arm", served)
		}
		if served == 50 {
			get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 })
			infer(t, "POST", base+"/v1/feedback", fmt.Appendf(nil, `{"prediction_id":%q,"label":0.5}`, id), "Content-Type", "application/json")
		}
	}
	type arm struct {
		Arm     string
		Numbers struct{ Requests int64 }
		Labels  []struct {
			Count int64
			Mean  float64
		}
	}
	type shown struct {
		Numbers struct {
			Arms        []arm
			SampleRatio *struct {
				Units int64
				P     float64
			} `json:"sample_ratio"`
		}
	}
	x := get(t, base+path, func(x shown) bool {
		n := x.Numbers
		return len(n.Arms) == 2 && n.Arms[0].Numbers.Requests+n.Arms[1].Numbers.Requests == 50 && n.SampleRatio != nil && len(n.Arms[0].Labels)+len(n.Arms[1].Labels) == 1
	})
	if r := x.Numbers.SampleRatio; r.Units != 50 || r.P <= 0.001 {
		t.Errorf("%+v", r)
	}
}
