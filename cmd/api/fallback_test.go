package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/onnx/onnxtest"
)

// Whichever way requests come, those that a model has no room for are answered by its
// fallback, which the answer and the log say; durable ones wait for the model itself.
func TestOverloadIsAnsweredByTheFallback(t *testing.T) {
	dir := t.TempDir()
	for path, data := range map[string][]byte{
		"big/1/model.onnx": onnxtest.Slow(30_000), "small/4/model.onnx": onnxtest.Slow(1),
		"big/config.yaml": []byte("max_batch_size: 1\nbatching: {max_queue_size: 1, default_timeout: 20s}\nexecution: {executors: 1}\nfallback: small@4\n"),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := startApp(t, "--model-repository="+dir, "--models=big,small")
	base := "http://" + a.http.Addr()
	conn, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":[%s0]}]}`, strings.Repeat("0,", 63))
	post := func(path string) (header http.Header, model string) {
		e := infer(t, "POST", base+path, []byte(body), "Content-Type", "application/json")
		var answer struct {
			ModelName string `json:"model_name"`
			Model     string
		}
		if err := json.Unmarshal(e.body, &answer); err != nil {
			t.Errorf("%s: %v", e.body, err)
		}
		return e.Header, answer.ModelName + answer.Model
	}
	for name, ask := range map[string]func() (header http.Header, model string){
		"REST":   func() (http.Header, string) { return post("/v2/models/big/infer") },
		"native": func() (http.Header, string) { return post("/v1/models/big/predictions") },
		"gRPC": func() (http.Header, string) {
			var header metadata.MD
			resp, err := oippb.NewGRPCInferenceServiceClient(conn).ModelInfer(context.Background(), &oippb.ModelInferRequest{ModelName: "big",
				Inputs: []*oippb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1, 64}, Contents: &oippb.InferTensorContents{Fp32Contents: make([]float32, 64)}}}}, grpc.Header(&header))
			if err != nil {
				return nil, ""
			}
			h := http.Header{}
			for k, v := range header {
				h[http.CanonicalHeaderKey(k)] = v
			}
			return h, resp.GetModelName()
		},
	} {
		stop, found := make(chan struct{}), make(chan string, 1)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					h, model := ask()
					if from := h.Get("Sluice-Fallback"); from != "" {
						if from != "big:1" || model != "small" {
							t.Errorf("%s: %s answered for %q", name, model, from)
						}
						select {
						case found <- h.Get("Prediction-Id"):
						default:
						}
					}
				}
			})
		}
		select {
		case id := <-found:
			close(stop)
			all.Wait()
			page := get(t, base+"/v1/prediction-log?id="+id, func(p logPage) bool { return len(p.Data) == 2 })
			answered, refused := page.Data[0], page.Data[1]
			if refused.Model != "big" || refused.Outcome != "refused" || refused.Attempt != 0 || answered.Model != "small" || answered.Version != "4" || answered.Outcome != "succeeded" || answered.Code != "fallback" || answered.Attempt != 1 {
				t.Errorf("%s: %+v", name, page.Data)
			}
		case <-time.After(20 * time.Second):
			close(stop)
			all.Wait()
			t.Fatalf("%s: nothing fell back", name)
		}
	}
	if _, text := fetch(t, "GET", base+"/v2/models/big/config", ""); !strings.Contains(text, `"sluice.fallback":{"string_value":"small@4"}`) {
		t.Errorf("the configuration does not name the fallback: %s", text)
	}
	if _, durable := predict(t, "POST", base+"/v1/models/big/predictions", body, "Prefer", "wait=20"); durable.Header.Get("Sluice-Fallback") != "" {
		t.Errorf("%v", durable.Header)
	}
}
