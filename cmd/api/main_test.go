package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"sluice/cmd/internal/models"
	"sluice/internal/platform/config"
)

// The server runs its own file as the sandbox: here that is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == models.ProbeCommand {
		main()
	}
	if len(os.Args) > 1 && os.Args[1] == childCommand { // a process that can be killed, see TestBatchOutlivesKills
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
	}
	os.Exit(m.Run())
}

func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), process{args, environ, strings.NewReader(""), &out, &err})
	return code, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	if code, out, _ := command(t, nil, "--help"); code != 0 || !strings.Contains(out, "SLUICE_HTTP_ADDR") || !strings.Contains(out, "Usage: api") {
		t.Errorf("--help: %d %s", code, out)
	}
	if code, out, _ := command(t, nil, "config", "--help"); code != 0 || !strings.Contains(out, "Usage: api") {
		t.Errorf("config --help: %d %s", code, out)
	}
	code, out, _ := command(t, []string{"SLUICE_MODEL_SLO=7ms"}, "config", "--http-addr=127.0.0.1:9")
	if code != 0 || !strings.Contains(out, `addr: "127.0.0.1:9" # flag --http-addr`) ||
		!strings.Contains(out, "slo: 7ms # environment variable SLUICE_MODEL_SLO") {
		t.Errorf("config: %d %s", code, out)
	}
	if code, out, _ := command(t, nil, "version"); code != 0 || !strings.HasPrefix(out, "sluice ") {
		t.Errorf("version: %d %s", code, out)
	}
}

func TestRefusesToStart(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		args    []string
		want    string
	}{
		"public address":     {[]string{"SLUICE_HTTP_ADDR=0.0.0.0:8000"}, nil, "no authentication is configured"},
		"typo":               {[]string{"SLUICE_HTPP_ADDR=127.0.0.1:0"}, nil, "nearest known one is SLUICE_HTTP_ADDR"},
		"unknown command":    {nil, []string{"sreve"}, `"sreve"`},
		"missing repository": {nil, []string{"--model-repository=/does/not/exist"}, "/does/not/exist"},
		"missing library":    {nil, []string{"--onnxruntime=/does/not/exist.so"}, "/does/not/exist.so"},
		"bad probe":          {nil, []string{models.ProbeCommand}, "takes the path"},
	} {
		t.Run(name, func(t *testing.T) {
			environ := append(tc.environ, "SLUICE_ONNXRUNTIME="+os.Getenv("SLUICE_ONNXRUNTIME"), "SLUICE_DATA_DIR="+t.TempDir())
			if code, _, stderr := command(t, environ, tc.args...); code != 1 || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit %d: %s", code, stderr)
			}
		})
	}
}

// startApp runs the whole program on free ports until stop is called.
func startApp(t *testing.T, flags ...string) (a *app, stop func() error) {
	t.Helper()
	cfg, err := config.Load(append([]string{
		"--http-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--model-repository=../../models",
		"--onnxruntime=" + os.Getenv("SLUICE_ONNXRUNTIME"), "--models=iris", "--data-dir=" + t.TempDir(), "--shutdown-notice=100ms",
	}, flags...), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newApp(t.Context(), cfg, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	a.ready = func() { close(started) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	select {
	case <-started:
	case err := <-done:
		done <- err
		t.Fatalf("ended while starting: %v", err)
	}
	return a, stop
}

func fetch(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

const irisRequest = `{"inputs":[{"name":"%s","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`

// inferBody asks the server for the model's input name, as a client would.
func inferBody(t *testing.T, base string) string {
	t.Helper()
	_, body := fetch(t, "GET", base+"/v2/models/iris", "")
	var metadata struct{ Inputs []struct{ Name string } }
	if err := json.Unmarshal([]byte(body), &metadata); err != nil || len(metadata.Inputs) != 1 {
		t.Fatalf("metadata %s: %v", body, err)
	}
	return fmt.Sprintf(irisRequest, metadata.Inputs[0].Name)
}

func TestServesOnEveryListener(t *testing.T) {
	a, stop := startApp(t, "--bench-noop", "--model-control=none")
	base, ops := "http://"+a.http.Addr(), "http://"+a.ops.Addr()
	infer := inferBody(t, base)
	for _, tc := range []struct {
		method, url, body string
		status            int
		want              string
	}{
		{"GET", base + "/", "", 200, "/v2/health/ready"},
		{"GET", base + "/v2/health/ready", "", 200, ""},
		{"POST", base + "/v2/models/iris/infer", infer, 200, `"outputs"`},
		{"POST", base + "/v2/models/none/infer", infer, 404, `"error"`},
		{"POST", base + "/v2/repository/models/iris/unload", "", 501, "model.control=none"},
		{"POST", base + "/bench/noop", "abc", 200, "ok"},
		{"GET", base + "/nowhere", "", 404, `"error"`},
		{"GET", base + "/metrics", "", 404, `"error"`},
		{"GET", ops + "/livez", "", 200, "pass"},
		{"GET", ops + "/startupz", "", 200, "pass"},
		{"GET", ops + "/readyz", "", 200, `"models"`},
		{"GET", ops + "/metrics", "", 200, `sluice_http_requests_total{code="200",listener="http",method="POST",route="/v2/models/:model/infer"} 1`},
	} {
		if status, body := fetch(t, tc.method, tc.url, tc.body); status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s answers %d %.300s, want %d with %q", tc.method, tc.url, status, body, tc.status, tc.want)
		}
	}
	client, err := grpc.NewClient(a.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	health, err := healthpb.NewHealthClient(client).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("grpc health: %v, %v", health, err)
	}
	const counted = `sluice_grpc_calls_total{code="OK",method="/grpc.health.v1.Health/Check"} 1`
	if _, body := fetch(t, "GET", ops+"/metrics", ""); !strings.Contains(body, counted) {
		t.Errorf("the metrics do not have %s", counted)
	}
	if s := a.summary(); !strings.Contains(s, "iris") || !strings.Contains(s, "loopback only: no authentication configured") {
		t.Errorf("summary: %s", s)
	}
	if err := stop(); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := http.Get(ops + "/livez"); err == nil {
		t.Error("the operations listener is still open")
	}
}

// Clients that heed readiness lose nothing while the whole program goes down.
func TestShutdownUnderLoadLosesNothing(t *testing.T) {
	a, stop := startApp(t, "--model-slo=1m", "--shutdown-notice=1s") // overload is not what this is about
	base := "http://" + a.http.Addr()
	infer := inferBody(t, base)
	var answered, afterNotice atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		client := &http.Client{Transport: &http.Transport{}}
		clients.Go(func() {
			defer client.CloseIdleConnections()
			for !a.health.Draining() {
				r, err := http.NewRequest("POST", base+"/v2/models/iris/infer", io.MultiReader(strings.NewReader(infer)))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(r)
				if err != nil {
					t.Errorf("lost: %v", err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || err != nil {
					t.Errorf("answered %d %s %v", resp.StatusCode, body, err)
				}
				answered.Add(1)
				if a.health.Draining() {
					afterNotice.Add(1)
				}
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); answered.Load() < 100 && time.Now().Before(deadline) && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	clients.Wait()
	t.Logf("%d answered, %d of them after the shutdown began", answered.Load(), afterNotice.Load())
}

// While a program shuts down it says so everywhere, and still serves.
func TestNoticeBeforeShutdown(t *testing.T) {
	a, stop := startApp(t, "--shutdown-notice=1s")
	base, ops := "http://"+a.http.Addr(), "http://"+a.ops.Addr()
	infer := inferBody(t, base)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for !a.health.Draining() {
		time.Sleep(time.Millisecond)
	}
	if status, body := fetch(t, "GET", ops+"/readyz", ""); status != 503 || !strings.Contains(body, "shutting down") {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, _ := fetch(t, "GET", base+"/v2/health/ready", ""); status == 200 {
		t.Errorf("the protocol's readiness: %d", status)
	}
	if status, body := fetch(t, "POST", base+"/v2/models/iris/infer", infer); status != 200 {
		t.Errorf("inference during the notice: %d %s", status, body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStrictRefusesABrokenModel(t *testing.T) {
	repository := t.TempDir()
	if err := os.MkdirAll(repository+"/broken/1", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(repository+"/broken/1/model.onnx", []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, stop := startApp(t, "--models=", "--model-repository="+repository)
	if status, body := fetch(t, "GET", "http://"+a.ops.Addr()+"/readyz", ""); status != 503 || !strings.Contains(body, "broken") {
		t.Errorf("readyz: %d %s", status, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	code, _, stderr := command(t, []string{"SLUICE_ONNXRUNTIME=" + os.Getenv("SLUICE_ONNXRUNTIME")},
		"--model-strict", "--model-repository="+repository, "--http-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--data-dir="+t.TempDir())
	if code != 1 || !strings.Contains(stderr, "broken") {
		t.Errorf("exit %d: %.500s", code, stderr)
	}
}
