package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
)

const featureConfig = `max_batch_size: 8
features:
  timeout: 20s
  inputs:
    in_fp32: {view: users, entity: {input: user}, features: [age, spent]}
parameters:
  sluice.log: '{"sample":1,"tenants":["*"]}'
`

// A model's inputs are made of what is known of whom a request is about, whichever way
// that comes, as of when it came; what was taken, and since when it was true, is logged.
func TestModelsTakeFeatures(t *testing.T) {
	dir := t.TempDir()
	for path, data := range map[string][]byte{"m/1/model.onnx": onnxtest.Identity(tensor.FP32), "m/config.yaml": []byte(featureConfig)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := startApp(t, "--model-repository="+dir, "--models=m")
	base := "http://" + a.http.Addr()
	sent := func(status int, method, path, body string, headers ...string) string {
		t.Helper()
		e := infer(t, method, base+path, []byte(body), append([]string{"Content-Type", "application/json"}, headers...)...)
		if e.StatusCode != status {
			t.Fatalf("%s %s: %d %s, want %d", method, path, e.StatusCode, e.body, status)
		}
		return string(e.body)
	}
	const infers = `{"inputs":[{"name":"user","datatype":"BYTES","shape":[2,1],"data":["ann","bob"]}]}`
	if body := sent(422, "POST", "/v2/models/m/infer", infers); !strings.Contains(body, "users") {
		t.Errorf("without the view: %s", body)
	}
	sent(201, "POST", "/v1/feature-views", `{"name":"users","features":[{"name":"age","datatype":"FP32","default":-1},{"name":"spent","datatype":"FP32","shape":[3],"default":[0,0,0]}]}`)
	sent(422, "POST", "/v1/feature-views", `{"name":"bad","features":[{"name":"age","datatype":"FP32","default":"old"}]}`)
	event := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	row := func(entity string, values string) string {
		return fmt.Sprintf(`{"entity":%q,"event_time":%q,"values":%s}`, entity, event.Format(time.RFC3339), values)
	}
	for range 2 {
		sent(200, "PUT", "/v1/features/users/rows", `{"rows":[`+row("ann", `{"age":30,"spent":[1,2,3]}`)+`]}`)
	}
	sent(200, "POST", "/v1/features/users/rows", row("zoe", `{"age":1}`)+"\n"+row("eve", `{}`), "Content-Type", "application/x-ndjson")
	if body := sent(422, "PUT", "/v1/features/users/rows", `{"rows":[`+row("x", `{"age":1}`)+","+row("y", `{"size":1}`)+`]}`); !strings.Contains(body, "row 1: ") {
		t.Errorf("a bad row: %s", body)
	}
	sent(404, "GET", "/v1/features/users/x", "")
	sent(404, "PUT", "/v1/features/none/rows", `{"rows":[]}`)
	if body := sent(200, "GET", "/v1/features/users/ann?as_of="+time.Now().Add(time.Minute).UTC().Format(time.RFC3339), ""); !strings.Contains(body, `"age":30`) {
		t.Errorf("as it is: %s", body)
	}
	sent(404, "GET", "/v1/features/users/ann?as_of="+event.Format(time.RFC3339), "") // it was not written yet

	known := []float64{30, 1, 2, 3, -1, 0, 0, 0}
	check := func(name, body string) {
		t.Helper()
		var answer struct {
			Outputs []struct{ Data []float64 }
			Output  struct {
				Outputs []struct{ Data []float64 }
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatalf("%s: %s: %v", name, body, err)
		}
		if got := append(answer.Outputs, answer.Output.Outputs...); len(got) != 1 || !slices.Equal(got[0].Data, known) {
			t.Errorf("%s: %s", name, body)
		}
	}
	check("REST", sent(200, "POST", "/v2/models/m/infer", infers))
	check("rows", sent(200, "POST", "/v1/models/m/predictions", `{"rows":[{"user":"ann"},{"user":"bob"}]}`))
	check("durable", sent(200, "POST", "/v1/models/m/predictions", `{"rows":[{"user":"ann"},{"user":"bob"}]}`, "Prefer", "wait=20"))
	check("what the client sends", sent(200, "POST", "/v2/models/m/infer", `{"inputs":[{"name":"in_fp32","datatype":"FP32","shape":[2,4],"data":[30,1,2,3,-1,0,0,0]}]}`))
	sent(400, "POST", "/v2/models/m/infer", `{"inputs":[]}`)
	conn, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := oippb.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), &oippb.ModelInferRequest{ModelName: "m",
		Inputs: []*oippb.ModelInferRequest_InferInputTensor{{Name: "user", Datatype: "BYTES", Shape: []int64{2, 1}, Contents: &oippb.InferTensorContents{BytesContents: [][]byte{[]byte("ann"), []byte("bob")}}}}})
	if err != nil || len(got.GetRawOutputContents()) != 1 || len(got.GetRawOutputContents()[0]) != 32 {
		t.Fatalf("gRPC: %v, %v", got, err)
	}
	if _, text := fetch(t, "GET", base+"/v2/models/m", ""); !strings.Contains(text, `"inputs":[{"name":"user","datatype":"BYTES","shape":[-1,1]}]`) {
		t.Errorf("the metadata does not ask for entities: %s", text)
	}

	e := infer(t, "POST", base+"/v2/models/m/infer", []byte(infers))
	id := e.Header.Get("Prediction-Id")
	get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 1 })
	content := sent(200, "GET", "/v1/prediction-log/"+id+"/content", "")
	at := event.UnixMilli()
	if want := fmt.Sprintf(`"features":[{"name":"in_fp32","datatype":"INT64","shape":[2,2],"data":[%d,%d,0,0]}]`, at, at); !strings.Contains(content, want) || !strings.Contains(content, `"data":[30,1,2,3,-1,0,0,0]`) {
		t.Errorf("the log has %s, want %s", content, want)
	}
	sent(204, "DELETE", "/v1/features/users/ann", "")
	sent(404, "GET", "/v1/features/users/ann", "")
	sent(204, "DELETE", "/v1/feature-views/users", "", "If-Match", "*")
	sent(204, "DELETE", "/v1/features/users/zoe", "")
	sent(200, "POST", "/v1/feature-views/users/restore", "")
	sent(404, "GET", "/v1/features/users/zoe", "")
	sent(200, "GET", "/v1/features/users/eve", "")
}
