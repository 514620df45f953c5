package oipgrpc

import (
	"context"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/route"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// identityModels is a serve.Models in memory: output i of its models is input i.
type identityModels struct {
	mu       sync.Mutex
	versions []*serve.Version
	loads    map[string]serve.LoadOptions
	unloads  []string

	// run, where set, stands between decode and encode.
	run func(ctx context.Context, req *serve.Request) error
}

func port(name string, d tensor.Datatype, shape ...int64) model.Port {
	return model.Port{Name: name, Datatype: d, Shape: shape}
}

// identity returns a model with one input and output for each port.
func identity(name string, number int64, ports ...model.Port) *serve.Version {
	v := &serve.Version{
		Name: name, Number: number, Text: strconv.FormatInt(number, 10), Stats: &serve.Stats{},
		Batches: true, MaxRows: 32, CrossRequest: true,
	}
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
	var req serve.Request
	if err := c.Decode(ctx, v, &req); err != nil {
		return err
	}
	for i := range req.Inputs {
		if v.Signature.Input(req.Inputs[i].Name) < 0 {
			return fault.New(fault.Invalid, "unexpected inference input '%s'", req.Inputs[i].Name)
		}
		if err := req.Inputs[i].Validate(); err != nil {
			return fault.New(fault.Invalid, "input '%s': %s", req.Inputs[i].Name, err)
		}
	}
	if m.run != nil {
		if err := m.run(ctx, &req); err != nil {
			return err
		}
	}
	var resp serve.Response
	for _, name := range wanted(v, req.Outputs) {
		o := v.Signature.Output(name)
		if o < 0 {
			return fault.New(fault.Invalid, "unexpected inference output '%s'", name)
		}
		i := slices.IndexFunc(req.Inputs, func(t tensor.Tensor) bool { return t.Name == v.Signature.Inputs[o].Name })
		if i < 0 {
			return fault.New(fault.Invalid, "input '%s' is missing", v.Signature.Inputs[o].Name)
		}
		out := req.Inputs[i]
		out.Name = name
		resp.Outputs = append(resp.Outputs, out)
		resp.Ports = append(resp.Ports, &v.Signature.Outputs[o])
	}
	if err := c.Encode(ctx, v, &resp); err != nil {
		return err
	}
	v.Stats.LastInference.Store(1)
	v.Stats.Inferences.Add(1)
	v.Stats.Executions.Add(1)
	v.Stats.ObserveBatch(1, time.Microsecond)
	for _, d := range []*serve.Duration{&v.Stats.Success, &v.Stats.Queue, &v.Stats.ComputeInput, &v.Stats.ComputeInfer, &v.Stats.ComputeOutput} {
		d.Add(time.Microsecond)
	}
	return nil
}

func wanted(v *serve.Version, names []string) []string {
	if len(names) > 0 {
		return names
	}
	for _, p := range v.Signature.Outputs {
		names = append(names, p.Name)
	}
	return names
}

func (m *identityModels) Lookup(name, version string) (*serve.Version, error) {
	for _, v := range slices.Backward(m.versions) {
		if v.Name == name && (version == "" || version == v.Text) {
			return v, nil
		}
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

func (m *identityModels) Ready() bool { return true }

// fixture is a running server and a client of it.
type fixture struct {
	client  pb.GRPCInferenceServiceClient
	conn    *grpc.ClientConn
	service *Service
	stop    context.CancelFunc // begins the server's graceful stop
	stopped chan error
}

func start(t testing.TB, models serve.Models, cfg Config, server rpc.Config) *fixture {
	t.Helper()
	if cfg.Memory == nil {
		cfg.Memory = budget.New(4<<30, "memory")
	}
	server.Memory = cfg.Memory
	service, err := New(models, cfg)
	if err != nil {
		t.Fatal(err)
	}
	server.Codec = Codec()
	srv, err := rpc.New(server)
	if err != nil {
		t.Fatal(err)
	}
	service.Register(srv)
	listener := bufconn.Listen(1 << 20)
	conn, err := grpc.NewClient("passthrough:///server",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &fixture{client: pb.NewGRPCInferenceServiceClient(conn), conn: conn, service: service, stop: cancel, stopped: make(chan error, 1)}
	go func() { f.stopped <- srv.Serve(ctx, listener) }()
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-f.stopped; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for end := time.Now().Add(10 * time.Second); cfg.Memory.Held() != 0; time.Sleep(time.Millisecond) {
			runtime.GC() // what a broken connection dropped
			if time.Now().After(end) {
				t.Errorf("%d bytes are still held after the server stopped", cfg.Memory.Held())
				break
			}
		}
		f.stopped <- nil // for a test that has waited itself
	})
	return f
}

// rawRequest is a request of one raw input "x".
func rawRequest(model, id, datatype string, shape []int64, data []byte) *pb.ModelInferRequest {
	return &pb.ModelInferRequest{
		ModelName: model, Id: id,
		Inputs:           []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: datatype, Shape: shape}},
		RawInputContents: [][]byte{data},
	}
}

// typedRequest is a request of one typed input "x".
func typedRequest(datatype string, shape []int64, c *pb.InferTensorContents) *pb.ModelInferRequest {
	return &pb.ModelInferRequest{
		ModelName: "m",
		Inputs:    []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: datatype, Shape: shape, Contents: c}},
	}
}
