package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
)

// lookups is a repository of a model whose versions look up an index: up to 3 in the
// first and second, where the third has none for 3, and the fourth has another value.
func lookups(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for version, values := range map[int][]float32{1: {0, 10, 20, 30}, 2: {0, 10, 20, 30, 40}, 3: {0, 10, 20}, 4: {0, 10, 20, 31}} {
		file := filepath.Join(dir, "lookup", strconv.Itoa(version), "model.onnx")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		data := onnxtest.Model{Graph: onnxtest.Graph{
			Nodes:        []onnxtest.Node{{Op: "Gather", In: []string{"table", "x"}, Out: []string{"y"}}},
			Initializers: []onnxtest.Tensor{onnxtest.Floats("table", []int64{int64(len(values))}, values...)},
			Inputs:       []onnxtest.Value{{Name: "x", Type: tensor.Int64, Shape: "batch,1"}},
			Outputs:      []onnxtest.Value{{Name: "y", Type: tensor.FP32, Shape: "batch,1"}},
		}}.Encode()
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lookup", "config.yaml"), []byte("slo: 10s\nversion_policy: {all: true}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// walk begins a release under load and returns it at its end, and how many requests
// were answered and failed meanwhile.
func walk(t *testing.T, base, candidate string) (status string, answered, failed int64) {
	t.Helper()
	const policy = `{"alpha":0.05,"min_requests":50,"error_rate":{"worse":0.2},"sample_ratio":{"alpha":0.0001}}`
	body := fmt.Sprintf(`{"model":"lookup","candidate":%q,"steps":[{"name":"first","weight":2500,"policy":%s},{"name":"half","weight":5000,"policy":%s}]}`, candidate, policy, policy)
	var counts [2]atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got := infer(t, http.MethodPost, base+"/v2/models/lookup/infer", []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[3]}]}`))
				if got.StatusCode == http.StatusOK {
					counts[0].Add(1)
				} else {
					if counts[1].Add(1) == 1 {
						t.Logf("the first that failed: %d %s", got.StatusCode, got.body)
					}
				}
			}
		})
	}
	defer load.Wait()
	defer close(done)
	made := infer(t, http.MethodPost, base+"/v1/releases", []byte(body), "Content-Type", "application/json")
	var r struct{ ID, Status, Reason string }
	if err := json.Unmarshal(made.body, &r); err != nil || made.StatusCode != http.StatusCreated || made.Header.Get("Location") != "/v1/releases/"+r.ID {
		t.Fatalf("%d %s, %v", made.StatusCode, made.body, err)
	}
	for deadline := time.Now().Add(60 * time.Second); r.Status == "running"; time.Sleep(20 * time.Millisecond) {
		_, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID, "")
		if err := json.Unmarshal([]byte(text), &r); err != nil || time.Now().After(deadline) {
			t.Fatalf("%s, %v", text, err)
		}
	}
	if _, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID+"/replay", ""); !strings.Contains(text, `"holds":true`) {
		t.Errorf("replayed: %s", text)
	}
	if _, text := fetch(t, http.MethodGet, base+"/v1/releases/"+r.ID+"/events", ""); !strings.Contains(text, `"type":"release.judged"`) || !strings.Contains(text, `"measured"`) {
		t.Errorf("events: %s", text)
	}
	return r.Status, counts[0].Load(), counts[1].Load()
}

// A version that is as good is released under load without a failed request; one
// that is not goes back by itself.
func TestReleases(t *testing.T) {
	a, _ := startApp(t, "--model-repository="+lookups(t), "--models=lookup")
	base := "http://" + a.http.Addr()
	made := infer(t, http.MethodPut, base+"/v1/models/lookup/aliases/champion", []byte(`{"version":"1"}`), "If-None-Match", "*", "Content-Type", "application/json")
	if made.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", made.StatusCode, made.body)
	}
	version := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			_, text := fetch(t, http.MethodGet, base+"/v1/models/lookup/aliases/champion", "")
			if strings.Contains(text, `"version":"`+want+`"`) && !strings.Contains(text, "held_by") {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the champion is %s, want version %s", text, want)
			}
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until then the greatest version answers, which fails
		if status, _ := fetch(t, http.MethodPost, base+"/v2/models/lookup/infer", `{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[3]}]}`); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the alias is not in effect")
		}
	}
	status, answered, failed := walk(t, base, "2")
	t.Logf("a good candidate: %s, %d answered, %d failed", status, answered, failed)
	if status != "promoted" || failed != 0 || answered == 0 {
		t.Errorf("a good candidate: %s, %d answered, %d failed", status, answered, failed)
	}
	version("2")
	status, answered, failed = walk(t, base, "3")
	t.Logf("a bad candidate: %s, %d answered, %d failed", status, answered, failed)
	if status != "rolled_back" || failed == 0 {
		t.Errorf("a bad candidate: %s, %d failed", status, failed)
	}
	version("2")
	for _, action := range []string{"aliases.promote", "releases.judge_advance", "releases.judge_revert", "aliases.free"} { // what nobody did is in the tenant's log, too
		get(t, base+"/v1/audit-entries?filter=action:eq:"+action, func(p struct {
			Data []struct{ Actor, Change string }
		}) bool {
			return len(p.Data) > 0 && p.Data[0].Actor == "system" && p.Data[0].Change != ""
		})
	}
}

// Whichever way a request comes, its unit chooses its arm, and the answer tells it.
func TestExperimentByEveryWay(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	send := func(method, path, body string, headers ...string) exchange {
		t.Helper()
		got := infer(t, method, base+path, []byte(body), append(headers, "Content-Type", "application/json")...)
		if got.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, got.StatusCode, got.body)
		}
		return got
	}
	send("PUT", "/v1/models/iris/aliases/champion", `{"version":"1"}`, "If-None-Match", "*")
	made := send("POST", "/v1/experiments", `{"model":"iris","arms":[{"name":"old","version":"1","weight":5000},{"name":"new","version":"2","weight":5000}],
		"rules":[{"when":[{"from":"attribute","name":"plan","in":["pro"]},{"from":"header","name":"x-beta","in":["yes"]}],"arm":"new"}]}`)
	question := fmt.Sprintf(predictionBody, "x")
	native := func(headers ...string) string {
		return send("POST", "/v1/models/iris/predictions", question, headers...).Header.Get("Experiment-Arm")
	}
	for deadline := time.Now().Add(20 * time.Second); native() == ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the experiment is not in effect")
		}
	}
	conn, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	called := func(pairs ...string) string {
		t.Helper()
		var header metadata.MD
		_, err := oippb.NewGRPCInferenceServiceClient(conn).ModelInfer(metadata.AppendToOutgoingContext(t.Context(), pairs...), &oippb.ModelInferRequest{ModelName: "iris",
			Inputs: []*oippb.ModelInferRequest_InferInputTensor{{Name: "input", Datatype: "FP32", Shape: []int64{1, 4}, Contents: &oippb.InferTensorContents{Fp32Contents: []float32{1, 2, 3, 4}}}}}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(header.Get("experiment-arm"), ",")
	}
	arms := map[string]int{}
	for i := range 20 {
		unit := []string{"Experiment-Unit", "unit-" + strconv.Itoa(i)}
		arm := native(unit...)
		arms[arm]++
		protocol := send("POST", "/v2/models/iris/infer", question, unit...)
		durable := send("POST", "/v1/models/iris/predictions", question, append(unit, "Prefer", "wait=20")...)
		for way, got := range map[string]string{"protocol": protocol.Header.Get("Experiment-Arm"), "durable": durable.Header.Get("Experiment-Arm"), "gRPC": called(unit...), "again": native(unit...)} {
			if got != arm {
				t.Errorf("unit %d has %q, by %s %q", i, arm, way, got)
			}
		}
		if v := map[string]string{"old": "1", "new": "2"}[arm]; v == "" || durable.decode(t).Version != v {
			t.Errorf("unit %d of arm %q is answered by %s", i, arm, durable.body)
		}
	}
	if arms["old"] == 0 || arms["new"] == 0 {
		t.Errorf("arms: %v", arms)
	}
	pro := []string{"Experiment-Attributes", "region=eu, plan=pro", "X-Beta", "yes"}
	for i := range 5 {
		with := append(pro, "Experiment-Unit", strconv.Itoa(i))
		if n, g := native(with...), called(with...); n != "new" || g != "new" {
			t.Errorf("by rule: %q, by gRPC %q", n, g)
		}
	}
	id := made.Header.Get("Location")
	send("POST", id+"/stop", "")
	for deadline := time.Now().Add(20 * time.Second); native() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the experiment is still in effect")
		}
	}
}
