package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
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
