package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/onnx/onnxtest"
)

// The sample graph answers as its models do, in each protocol, under its own name.
func TestSampleGraph(t *testing.T) {
	a, _ := startApp(t, "--models=iris,iris_committee")
	base := "http://" + a.http.Addr()
	if _, body := fetch(t, "GET", base+"/v2/models/iris_committee", ""); !strings.Contains(body, `"platform":"sluice_graph"`) ||
		!strings.Contains(body, `{"name":"input","datatype":"FP32","shape":[-1,4]}`) || !strings.Contains(body, `{"name":"sure","datatype":"BOOL","shape":[-1,1]}`) {
		t.Errorf("metadata: %s", body)
	}
	const rows = `{"inputs":[{"name":"input","shape":[2,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2,6.5,3.2,5.1,2.0]}]}`
	ask := func(path string) map[string][]float64 {
		code, body := fetch(t, "POST", base+path, rows)
		var answer struct {
			Outputs []struct {
				Name string
				Data []any
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		values := map[string][]float64{}
		for _, o := range answer.Outputs {
			for _, v := range o.Data {
				if sure, ok := v.(bool); ok {
					values[o.Name] = append(values[o.Name], map[bool]float64{true: 1}[sure])
				} else {
					values[o.Name] = append(values[o.Name], v.(float64))
				}
			}
		}
		return values
	}
	first, second, both := ask("/v2/models/iris/versions/1/infer"), ask("/v2/models/iris/versions/2/infer"), ask("/v2/models/iris_committee/versions/stable/infer")
	for i := range 6 {
		if want := (first["probabilities"][i] + 2*second["probabilities"][i]) / 3; math.Abs(both["probabilities"][i]-want) > 1e-6 {
			t.Errorf("probability %d is %v, want %v", i, both["probabilities"][i], want)
		}
	}
	virginica := 0.0
	if both["probabilities"][5] >= 0.8 {
		virginica = 1
	}
	if both["label"][0] != 0 || both["label"][1] != 2 || both["sure"][0] != 1 || both["sure"][1] != virginica {
		t.Errorf("%v", both)
	}
	for _, mode := range [][]string{nil, {"Prefer", "respond-async, wait=20"}} {
		e := infer(t, "POST", base+"/v1/models/iris_committee/predictions", []byte(`{"rows":[{"input":[5.1,3.5,1.4,0.2]}]}`), append([]string{"Content-Type", "application/json"}, mode...)...)
		if e.StatusCode/100 != 2 {
			t.Errorf("native %v: %d %s", mode, e.StatusCode, e.body)
		}
	}
	if _, body := fetch(t, "GET", "http://"+a.ops.Addr()+"/metrics", ""); !strings.Contains(body, `sluice_graph_node_seconds_count{model="iris_committee",node="committee",version="1"}`) {
		t.Error("the nodes are not among the metrics")
	}
}

// A graph that is uploaded is a version like any other: tried with its golden run, served by
// number and alias, also after a restart, and its models stay while it needs them.
func TestGraphInTheRegistry(t *testing.T) {
	dir := t.TempDir()
	a, stop := startApp(t, "--data-dir="+dir, "--models=")
	base := "http://" + a.http.Addr()
	_, part := registerVersion(t, base, "part", fmt.Sprintf(`{"upload_id":%q}`, put(t, base, onnxtest.MLP(1, 4, 4))))
	if part = settled(t, base, part.URLs.Self); part.Stage != "ready" {
		t.Fatalf("%+v", part)
	}
	const rows = `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
	ask := func(model string, want int) exchange {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // nodes learn of it in moments
			e := infer(t, "POST", base+"/v2/models/"+model+"/infer", []byte(rows), "Content-Type", "application/json")
			if e.StatusCode == want {
				return e
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d %s, want %d", model, e.StatusCode, e.body, want)
			}
		}
	}
	outputs := func(e exchange) string { _, o, _ := strings.Cut(string(e.body), `"outputs"`); return o }
	alone := ask("part", 200)
	graph := func(nodes string) string {
		return "inputs: [x]\noutputs: [y]\nnodes:\n" + nodes
	}
	files := func(text string, more ...string) string {
		body := fmt.Sprintf(`{"files":[{"name":"graph.yaml","upload_id":%q}`, put(t, base, []byte(text)))
		for i := 0; i < len(more); i += 2 {
			body += fmt.Sprintf(`,{"name":%q,"upload_id":%q}`, more[i], put(t, base, []byte(more[i+1])))
		}
		return body + "]}"
	}
	once := graph("  - {name: only, model: part@1}\n")
	e, v := registerVersion(t, base, "whole", files(once, "golden_inputs.json", rows, "golden_outputs.json", `{"outputs"`+outputs(alone)))
	if e.StatusCode != 201 || !strings.Contains(string(e.body), `"lineage":{"members":[{"model":"part","version":"1","number":1,"sha256":"`+part.SHA256+`"}]}`) {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	if v = settled(t, base, v.URLs.Self); v.Stage != "ready" || !v.Trial.Golden {
		t.Fatalf("%+v", v)
	}
	if got := ask("whole", 200); outputs(got) != outputs(alone) {
		t.Errorf("%s, its model %s", got.body, alone.body)
	}
	_, twice := registerVersion(t, base, "whole", files(graph("  - {name: a, model: part@1, outputs: {y: w}}\n  - {name: b, model: part, inputs: {x: w}}\n")))
	if twice = settled(t, base, twice.URLs.Self); twice.Stage != "ready" || twice.Number != 2 {
		t.Fatalf("%+v", twice)
	}
	alias := base + "/v1/models/whole/aliases/champion"
	if e := infer(t, "PUT", alias, []byte(`{"version":"1"}`), "Content-Type", "application/json", "If-None-Match", "*"); e.StatusCode/100 != 2 {
		t.Fatalf("%d %s", e.StatusCode, e.body)
	}
	begun := infer(t, "POST", base+"/v1/releases", []byte(`{"model":"whole","candidate":"2","steps":[{"name":"half","weight":5000,"policy":{"alpha":0.05,"min_requests":1000000,"error_rate":{"worse":0.2}}}]}`), "Content-Type", "application/json")
	var release struct{ ID string }
	if err := json.Unmarshal(begun.body, &release); err != nil || begun.StatusCode != 201 {
		t.Fatalf("%d %s", begun.StatusCode, begun.body)
	}
	archive := func(self string) exchange {
		return infer(t, "PATCH", base+self, []byte(`{"stage":"archived"}`), "Content-Type", "application/json", "If-Match", "*")
	}
	if e := archive(twice.URLs.Self); e.StatusCode != 409 || !strings.Contains(string(e.body), release.ID) {
		t.Errorf("a candidate: %d %s", e.StatusCode, e.body)
	}
	if e := infer(t, "POST", base+"/v1/releases/"+release.ID+"/rollback", nil, "If-Match", "*"); e.StatusCode/100 != 2 {
		t.Errorf("%d %s", e.StatusCode, e.body)
	}
	for what, c := range map[string]struct{ body, says string }{
		"a circle":      {files(graph("  - {name: a, model: whole}\n")), "uses itself"},
		"through other": {files(graph("  - {name: a, model: whole}\n")), "graph that uses graph 'part'"},
		"no such model": {files(graph("  - {name: a, model: nobody}\n")), "'nobody' is not found"},
		"two files":     {files(once, "model.onnx", "x"), "a model or a graph of others"},
	} {
		model := map[bool]string{true: "part", false: "whole"}[what == "through other"]
		e := infer(t, "POST", base+"/v1/models/"+model+"/versions", []byte(c.body), "Content-Type", "application/json")
		if e.StatusCode != 422 || !strings.Contains(string(e.body), c.says) {
			t.Errorf("%s: %d %s", what, e.StatusCode, e.body)
		}
	}
	if e := infer(t, "DELETE", base+part.URLs.Self, nil, "If-Match", "*"); e.StatusCode != 409 || !strings.Contains(string(e.body), `of the graph \"whole\" is made of it`) {
		t.Errorf("a model that a graph needs: %d %s", e.StatusCode, e.body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a, _ = startApp(t, "--data-dir="+dir, "--models=")
	base = "http://" + a.http.Addr()
	if got := ask("whole/versions/1", 200); outputs(got) != outputs(alone) {
		t.Errorf("after a restart: %s", got.body)
	}
	if e := archive(v.URLs.Self); e.StatusCode != 409 || !strings.Contains(string(e.body), "the alias champion names it") {
		t.Errorf("under an alias: %d %s", e.StatusCode, e.body)
	}
}
