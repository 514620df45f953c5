package oipgrpc

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/rpc"
)

// BenchmarkInfer measures one request over loopback TCP in CPU time of the whole
// process. The client's share is kept small and equal: it sends encoded bytes and
// does not decode answers. "generated" is the same service over generated
// messages, which the direct form has to beat; "empty" is ServerLive, the floor
// that gRPC itself sets.
func BenchmarkInfer(b *testing.B) {
	for _, size := range []int{3 << 10, 64 << 10, 600 << 10} {
		v := identity("m", 1, port("x", tensor.Uint8, -1))
		v.Signature.Outputs[0].Name = "y"
		request, err := proto.Marshal(rawRequest("m", "1", "UINT8", []int64{int64(size)}, make([]byte, size)))
		if err != nil {
			b.Fatal(err)
		}
		models := &fixedModels{identityModels: identityModels{versions: []*serve.Version{v}}}
		for _, form := range []string{"direct", "generated", "empty"} {
			if form == "empty" && size > 3<<10 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%dKB", form, size>>10), func(b *testing.B) {
				srv, err := rpc.New(rpc.Config{Codec: Codec()})
				if err != nil {
					b.Fatal(err)
				}
				method, message := pb.GRPCInferenceService_ModelInfer_FullMethodName, request
				switch form {
				case "generated":
					pb.RegisterGRPCInferenceServiceServer(srv, &generated{models: models})
				case "empty":
					method, message = pb.GRPCInferenceService_ServerLive_FullMethodName, nil
					fallthrough
				default:
					s, err := New(models, Config{})
					if err != nil {
						b.Fatal(err)
					}
					s.Register(srv)
				}
				benchmarkCalls(b, srv, method, message)
			})
		}
	}
}

func benchmarkCalls(b *testing.B, srv *rpc.Server, method string, request []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Serve(ctx, listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = conn.Close()
		stop()
		if err := <-stopped; err != nil {
			b.Error(err)
		}
	}()
	codec := grpc.ForceCodecV2(discardCodec{bytesCodec{Codec()}})
	call := func() {
		var answer discarded
		if err := conn.Invoke(ctx, method, &request, &answer, codec); err != nil {
			b.Error(err)
		}
	}
	call()
	b.SetBytes(int64(len(request)))
	b.ReportAllocs()
	before := cpuTime()
	b.ResetTimer()
	b.SetParallelism(8)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			call()
		}
	})
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discarded is an answer that the client does not look at.
type discarded struct{}

type discardCodec struct{ bytesCodec }

func (c discardCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*discarded); ok {
		return nil
	}
	return c.bytesCodec.Unmarshal(data, v)
}

// fixedModels answers with 10 floats and does nothing else.
type fixedModels struct{ identityModels }

var tenFloats = tensor.Tensor{Name: "y", Datatype: tensor.FP32, Shape: tensor.Shape{1, 10}, Data: make([]byte, 40)}

func (m *fixedModels) Predict(ctx context.Context, c serve.Codec) error {
	v, err := m.Lookup(c.Target())
	if err != nil {
		return err
	}
	req := serve.Request{Inputs: make([]tensor.Tensor, 0, 1)}
	if err := c.Decode(ctx, v, &req); err != nil {
		return err
	}
	return c.Encode(ctx, v, &serve.Response{Outputs: []tensor.Tensor{tenFloats}})
}

// generated is ModelInfer over the generated messages.
type generated struct {
	pb.UnimplementedGRPCInferenceServiceServer
	models serve.Models
}

func (g *generated) ModelInfer(ctx context.Context, req *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	c := &generatedCall{req: req}
	if err := g.models.Predict(ctx, c); err != nil {
		return nil, err
	}
	return c.resp, nil
}

type generatedCall struct {
	req  *pb.ModelInferRequest
	resp *pb.ModelInferResponse
}

func (c *generatedCall) Target() (model, version string) {
	return c.req.GetModelName(), c.req.GetModelVersion()
}

func (c *generatedCall) Decode(_ context.Context, _ *serve.Version, req *serve.Request) error {
	req.ID = c.req.GetId()
	for i, in := range c.req.GetInputs() {
		d, err := tensor.Parse(in.GetDatatype())
		if err != nil {
			return err
		}
		req.Inputs = append(req.Inputs, tensor.Tensor{Name: in.GetName(), Datatype: d, Shape: in.GetShape(), Data: c.req.GetRawInputContents()[i]})
	}
	return nil
}

func (c *generatedCall) Encode(_ context.Context, v *serve.Version, resp *serve.Response) error {
	c.resp = &pb.ModelInferResponse{ModelName: v.Name, ModelVersion: v.Text, Id: c.req.GetId()}
	for _, o := range resp.Outputs {
		c.resp.Outputs = append(c.resp.Outputs, &pb.ModelInferResponse_InferOutputTensor{Name: o.Name, Datatype: o.Datatype.String(), Shape: o.Shape})
		c.resp.RawOutputContents = append(c.resp.RawOutputContents, append([]byte(nil), o.Data...))
	}
	return nil
}
