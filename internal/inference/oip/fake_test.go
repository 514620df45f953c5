package oip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"go.uber.org/goleak"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/route"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// memory is a budget that is enough for every test that is not about it.
var memory = budget.New(4<<30, "memory")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// identityModels is a serve.Models in memory: output i of its models is input i.
type identityModels struct {
	versions []*serve.Version
	notReady bool
	// run, where set, stands between decode and encode.
	run func(ctx context.Context, req *serve.Request) error

	mu      sync.Mutex
	loads   map[string]serve.LoadOptions
	unloads []string
}

func port(name string, d tensor.Datatype, shape ...int64) model.Port {
	return model.Port{Name: name, Datatype: d, Shape: shape}
}

// identity returns a batching model with an input, and an output "<name>_OUT",
// for each port.
func identity(name string, number int64, ports ...model.Port) *serve.Version {
	v := &serve.Version{
		Name: name, Number: number, Text: strconv.FormatInt(number, 10), Stats: &serve.Stats{},
		Batches: true, MaxRows: 32, CrossRequest: true,
	}
	v.Config.Name, v.Config.MaxBatchSize = name, &v.MaxRows
	for _, p := range ports {
		v.Signature.Inputs = append(v.Signature.Inputs, p)
		p.Name += "_OUT"
		v.Signature.Outputs = append(v.Signature.Outputs, p)
	}
	return v
}

func (m *identityModels) Predict(ctx context.Context, c serve.Codec) error {
	v, err := m.Lookup(c.Target())
	if err != nil {
		return err
	}
	call := fakeCalls.Get().(*fakeCall)
	defer call.free()
	req, resp := &call.req, &call.resp
	if err := c.Decode(ctx, v, req); err != nil {
		return err
	}
	if len(req.Inputs) != len(v.Signature.Inputs) {
		return fault.New(fault.Invalid, "expected %d inputs but got %d inputs for model '%s'", len(v.Signature.Inputs), len(req.Inputs), v.Name)
	}
	for i := range req.Inputs {
		t := &req.Inputs[i]
		if v.Signature.Input(t.Name) < 0 {
			return fault.New(fault.Invalid, "unexpected inference input '%s'", t.Name)
		}
		if err := t.Validate(); err != nil {
			return fault.New(fault.Invalid, "input '%s': %s", t.Name, err)
		}
	}
	if m.run != nil {
		if err := m.run(ctx, req); err != nil {
			return err
		}
	}
	for o := range v.Signature.Outputs {
		p := &v.Signature.Outputs[o]
		if len(req.Outputs) == 0 {
			call.add(v, o, p)
		}
	}
	for _, name := range req.Outputs {
		o := v.Signature.Output(name)
		call.add(v, o, &v.Signature.Outputs[o])
	}
	resp.Timing = serve.Timing{Decode: time.Microsecond, Queue: 2345 * time.Microsecond, Infer: time.Second}
	if err := c.Encode(ctx, v, resp); err != nil {
		return err
	}
	s := v.Stats
	s.LastInference.Store(1)
	s.Inferences.Add(max(req.Inputs[0].Rows(), 1))
	s.Executions.Add(1)
	s.ObserveBatch(int(req.Inputs[0].Rows()), 2)
	for _, d := range []*serve.Duration{&s.Success, &s.Queue, &s.ComputeInput, &s.ComputeInfer, &s.ComputeOutput} {
		d.Add(time.Microsecond)
	}
	return nil
}

// fakeCall is pooled as the real one is, so that allocation tests see the codec.
type fakeCall struct {
	req  serve.Request
	resp serve.Response
}

var fakeCalls = sync.Pool{New: func() any { return new(fakeCall) }}

func (c *fakeCall) add(v *serve.Version, o int, p *model.Port) {
	for _, in := range c.req.Inputs {
		if in.Name == v.Signature.Inputs[o].Name {
			in.Name = p.Name
			c.resp.Outputs = append(c.resp.Outputs, in)
			c.resp.Ports = append(c.resp.Ports, p)
		}
	}
}

func (c *fakeCall) free() {
	c.req = serve.Request{Inputs: c.req.Inputs[:0], Outputs: c.req.Outputs[:0]}
	c.resp = serve.Response{Outputs: c.resp.Outputs[:0], Ports: c.resp.Ports[:0]}
	fakeCalls.Put(c)
}

func (m *identityModels) Lookup(name, version string) (*serve.Version, error) {
	known := false
	for _, v := range slices.Backward(m.versions) {
		if v.Name == name {
			if known = true; version == "" || version == v.Text {
				return v, nil
			}
		}
	}
	if known {
		return nil, fault.New(fault.NotFound, "Request for unknown model: '%s' version %s is not found", name, version)
	}
	return nil, fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", name)
}

func (m *identityModels) Choose(name, version string, _ experiment.Request) (route.Choice[*serve.Version], error) {
	v, err := m.Lookup(name, version)
	return route.Choice[*serve.Version]{Value: v}, err
}

func (m *identityModels) Versions(name string) ([]*serve.Version, error) {
	if _, err := m.Lookup(name, ""); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(m.versions), func(v *serve.Version) bool { return v.Name != name }), nil
}

func (m *identityModels) Names() []string {
	var names []string
	for _, v := range m.versions {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *identityModels) Index() []serve.IndexEntry {
	index := []serve.IndexEntry{{Name: "broken", State: serve.Unavailable, Reason: "no version"}}
	for _, v := range m.versions {
		index = append(index, serve.IndexEntry{Name: v.Name, Version: v.Text, State: serve.Ready})
	}
	return index
}

func (m *identityModels) Load(_ context.Context, name string, opts serve.LoadOptions) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loads == nil {
		m.loads = make(map[string]serve.LoadOptions)
	}
	m.loads[name] = opts
	return nil
}

func (m *identityModels) Unload(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unloads = append(m.unloads, name)
	return nil
}

func (m *identityModels) Ready() bool { return !m.notReady }

// allTypes is a model of one input per datatype, in wire order.
func allTypes() *serve.Version {
	var ports []model.Port
	for d := tensor.Bool; d <= tensor.Bytes; d++ {
		ports = append(ports, port(d.String(), d, -1, -1))
	}
	return identity("types", 1, ports...)
}

func testModels() *identityModels {
	scores := identity("scores", 1, port("s", tensor.FP32, -1, 3))
	scores.Signature.Outputs[0].Labels = []string{"cat", "dog"}
	alone := identity("alone", 7, port("x", tensor.FP32, 2, -1))
	alone.Batches, alone.MaxRows, alone.CrossRequest = false, 0, false
	return &identityModels{versions: []*serve.Version{
		identity("m", 1, port("x", tensor.FP32, -1, -1)),
		identity("m", 3, port("x", tensor.FP32, -1, -1)),
		identity("two", 1, port("a", tensor.FP32, -1, 2), port("b", tensor.Int32, -1, 2)),
		identity("text", 1, port("t", tensor.Bytes, -1, 1)),
		identity("half", 1, port("h", tensor.FP16, -1, -1)),
		identity("wide", 1, port("w", tensor.FP32, -1, -1, 2, -1)),
		identity("a b/c%", 1, port("x", tensor.FP32, -1, -1)),
		scores, alone, allTypes(),
	}}
}

// testServer serves models as the platform does: panics become errors, and
// ErrorHandler writes them.
func testServer(t testing.TB, models serve.Models, config Config) *httptest.Server {
	t.Helper()
	if config.Memory == nil {
		config.Memory = budget.New(4<<30, "memory")
	}
	e := echo.New()
	e.HTTPErrorHandler = ErrorHandler
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{DisablePrintStack: true, LogErrorFunc: func(_ echo.Context, err error, _ []byte) error { return err }}))
	if err := Register(e, models, config); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.Close()
		waitFor(t, func() bool { return config.Memory.Held() == 0 })
	})
	return server
}

// waitFor waits until done says so.
func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("waited in vain")
			return
		}
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send posts, or with an empty method gets, a path.
func send(t testing.TB, s *httptest.Server, method, path string, body []byte, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity") // the transport must not unpack
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func post(t testing.TB, s *httptest.Server, path, body string, header ...string) answer {
	t.Helper()
	return send(t, s, "POST", path, []byte(body), header...)
}

func get(t testing.TB, s *httptest.Server, path string) answer {
	t.Helper()
	return send(t, s, "GET", path, nil)
}

// wantBody checks for a 200 with exactly the body.
func (a answer) wantBody(t testing.TB, want string) {
	t.Helper()
	if a.status != 200 || string(a.body) != want {
		t.Errorf("got %d %s\nwant 200 %s", a.status, a.body, want)
	}
}

// wantError checks for the protocol's error shape with a text that holds want.
func (a answer) wantError(t testing.TB, status int, want string) {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(a.body, &e); err != nil || len(e) != 1 || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("not an error of the protocol: %d %q %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if a.status != status || !strings.Contains(e["error"], want) {
		t.Errorf("got %d %q, want %d %q", a.status, e["error"], status, want)
	}
}

// decode reads a JSON body.
func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// split divides a binary answer.
func (a answer) split(t testing.TB) (text, binary string) {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get(HeaderLength))
	if err != nil || n > len(a.body) || a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("not a binary answer: %d %v %s", a.status, a.header, a.body)
	}
	return string(a.body[:n]), string(a.body[n:])
}
