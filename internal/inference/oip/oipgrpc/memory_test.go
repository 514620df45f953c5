package oipgrpc

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/model"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/rpc"
)

// watch keeps the most bytes that were held at once, until the test ends.
func watch(t *testing.T, memory *budget.Budget) *atomic.Int64 {
	peak, stop := new(atomic.Int64), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				peak.Store(max(peak.Load(), memory.Held()))
			}
		}
	})
	t.Cleanup(func() { close(stop); watching.Wait() })
	return peak
}

// Messages of kilobytes that inflate to megabytes, and large plain ones, are
// refused beyond the budget while they are being received, on every method.
func TestMessagesAreCountedAsTheyArrive(t *testing.T) {
	const limit, each, calls = 8 << 20, 2 << 20, 24
	zeros := make([]byte, each)
	for _, coding := range []string{"identity", gzip.Name, "deflate"} {
		for method, call := range map[string]func(*fixture) error{
			"ModelInfer": func(f *fixture) error {
				_, err := f.client.ModelInfer(context.Background(), rawRequest("m", "", "UINT8", []int64{each}, zeros), grpc.UseCompressor(coding))
				return err
			},
			"RepositoryModelLoad": func(f *fixture) error {
				_, err := f.client.RepositoryModelLoad(context.Background(), &pb.RepositoryModelLoadRequest{ModelName: "m", Parameters: map[string]*pb.ModelRepositoryParameter{
					"file:1/model.onnx": {ParameterChoice: &pb.ModelRepositoryParameter_BytesParam{BytesParam: zeros}},
				}}, grpc.UseCompressor(coding))
				return err
			},
			"ModelStreamInfer": func(f *fixture) error {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				stream, err := f.client.ModelStreamInfer(ctx, grpc.UseCompressor(coding))
				if err != nil {
					return err
				}
				_ = stream.Send(rawRequest("m", "", "UINT8", []int64{each}, zeros)) // Recv says what went wrong
				_, err = stream.Recv()
				return err
			},
		} {
			t.Run(coding+"/"+method, func(t *testing.T) {
				memory := budget.New(limit, "grpc.max_held")
				m := &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))}}
				enough := make(chan struct{})
				m.run = func(context.Context, *serve.Request) error { <-enough; return nil }
				f := start(t, &waitingModels{m, enough}, Config{Memory: memory}, rpc.Config{})
				peak := watch(t, memory)
				var served, refused atomic.Int64
				var all sync.WaitGroup
				for range calls {
					all.Go(func() {
						switch err := call(f); status.Code(err) {
						case codes.OK:
							served.Add(1)
						case codes.Unavailable:
							wantStatus(t, err, codes.Unavailable, "grpc.max_held")
							if refused.Add(1) == calls-limit/each {
								close(enough)
							}
						default:
							t.Error(err)
						}
					})
				}
				all.Wait()
				if served.Load()+refused.Load() != calls || refused.Load() < calls-limit/each || peak.Load() > limit {
					t.Errorf("%d served, %d refused, %d bytes held at once", served.Load(), refused.Load(), peak.Load())
				}
				for held := 1; held > 0; held = int(memory.Held()) { // answers may still be on their way
					runtime.GC()
				}
				if err := call(f); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// waitingModels waits before each load.
type waitingModels struct {
	*identityModels
	enough chan struct{}
}

func (m *waitingModels) Load(ctx context.Context, name string, opts serve.LoadOptions) error {
	<-m.enough
	return m.identityModels.Load(ctx, name, opts)
}

// A message that is, or inflates, beyond the limit leaves nothing held: start
// checks that.
func TestTooLargeMessages(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{MaxMessageBytes: 1 << 20, MaxMessageKey: "grpc.max_message"})
	_, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{8 << 20}, make([]byte, 8<<20)), grpc.UseCompressor(gzip.Name))
	wantStatus(t, err, codes.ResourceExhausted, "grpc.max_message", "1048576")
	_, err = f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{2 << 20}, make([]byte, 2<<20)))
	wantStatus(t, err, codes.ResourceExhausted, "grpc.max_message")
}

// An answer that the client does not read counts until it is sent, and not for
// ever where the client goes.
func TestUnreadAnswersCount(t *testing.T) {
	memory := budget.New(64<<20, "grpc.max_held")
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))}}, Config{Memory: memory}, rpc.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const size = 4 << 20
	stream, err := f.client.ModelStreamInfer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(rawRequest("m", "", "UINT8", []int64{size}, make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	// Its request is done with when only the answer is still held.
	for end := time.Now().Add(10 * time.Second); memory.Held() < size || memory.Held() > size+size/4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes held for an unread answer of %d", memory.Held(), size)
		}
	}
	cancel()
	_ = f.conn.Close()
	for end := time.Now().Add(10 * time.Second); memory.Held() != 0; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatalf("%d bytes held for a client that has gone", memory.Held())
		}
	}
}

// A request of millions of empty entries is refused while it is parsed, and the
// pooled message does not keep what it took until then.
func TestEntriesAreLimited(t *testing.T) {
	repeat := func(field protowire.Number, n int) []byte {
		return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), nil), n)
	}
	inputOf := func(inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), inner)
	}
	dims := func(n int) []byte { return bytes.Repeat([]byte{0x18, 1}, n) }
	packed := func(n int) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), bytes.Repeat([]byte{1}, n))
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"inputs": {repeat(5, 4<<20), errEntries}, "outputs": {repeat(6, 4<<20), errEntries}, "raw contents": {repeat(7, 4<<20), errEntries},
		"parameters":            {repeat(4, 4<<20), errEntries},
		"parameters of inputs":  {inputOf(repeat(4, 4<<20)), errEntries},
		"parameters of outputs": {protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), repeat(2, 4<<20)), errEntries},
		"dimensions":            {inputOf(dims(17)), errDims}, "packed dimensions": {inputOf(packed(8 << 20)), errDims},
		"as many as may be": {concat(repeat(5, maxEntries), repeat(6, maxEntries), repeat(7, maxEntries), repeat(4, maxEntries)), nil},
		"16 dimensions":     {bytes.Repeat(inputOf(concat(dims(8), packed(8))), 100), nil},
	} {
		var m message
		if err := m.parse(c.data); (c.want == nil) != (err == nil) || c.want != nil && err.Error() != c.want.Error() {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if cap(m.inputs) > 4*maxEntries || cap(m.outputs) > 4*maxEntries || cap(m.raw) > 4*maxEntries || cap(m.params) > 4*maxEntries ||
			cap(m.portParams) > 4*maxEntries || cap(m.dims) > 4*maxEntries*tensor.MaxDims {
			t.Errorf("%s: made room for %d inputs, %d outputs, %d contents, %d+%d parameters, %d dimensions", name,
				cap(m.inputs), cap(m.outputs), cap(m.raw), cap(m.params), cap(m.portParams), cap(m.dims))
		}
		if m.reset(); cap(m.inputs) > keepEntries || cap(m.dims) > keepEntries*tensor.MaxDims {
			t.Errorf("%s: a reset message keeps %d inputs and %d dimensions", name, cap(m.inputs), cap(m.dims))
		}
	}
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	request := repeat(5, 4<<20)
	err := f.conn.Invoke(t.Context(), pb.GRPCInferenceService_ModelInfer_FullMethodName, &request, new([]byte), grpc.ForceCodecV2(bytesCodec{Codec()}))
	wantStatus(t, err, codes.InvalidArgument, "more than 1024")
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Contents in very many parts take time and memory in proportion.
func TestContentsInManyParts(t *testing.T) {
	part := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), []byte{0x10, 1})
	input := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), bytes.Repeat(part, 1<<20))
	var m message
	began := time.Now()
	if err := m.parse(input); err != nil {
		t.Fatal(err)
	}
	if len(m.inputs[0].contents) != 2<<20 || m.copied < 2<<20 || m.copied > 4<<20 {
		t.Errorf("%d bytes of contents, %d copied", len(m.inputs[0].contents), m.copied)
	}
	if took := time.Since(began); took > 5*time.Second { // the square of it would be minutes
		t.Errorf("took %s", took)
	}
}

// Whatever a client sends, it gets a status that its connection can carry.
func TestLongTextsAreCut(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	for _, n := range []int{8000, 4 << 20} {
		long := strings.Repeat("ü", n/2)
		for name, req := range map[string]*pb.ModelInferRequest{
			"model": rawRequest(long, "", "UINT8", []int64{1}, []byte{1}),
			"id":    rawRequest("none", long, "UINT8", []int64{1}, []byte{1}),
			"type":  rawRequest("m", "", long, []int64{1}, []byte{1}),
			"input": {ModelName: "m", Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: long, Datatype: "UINT8", Shape: []int64{1}}}, RawInputContents: [][]byte{{1}}},
			"output": {ModelName: "m", Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "UINT8", Shape: []int64{1}}}, RawInputContents: [][]byte{{1}},
				Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: long}}},
		} {
			_, err := f.client.ModelInfer(t.Context(), req)
			st := status.Convert(err)
			if code := st.Code(); code != codes.InvalidArgument && code != codes.NotFound || len(st.Message()) > 4096 {
				t.Errorf("%s of %d bytes: %s, a text of %d bytes", name, n, code, len(st.Message()))
			}
		}
	}
}

// Classification of an answer without rows, however many classes it declares,
// takes nothing.
func TestClassificationOfNothing(t *testing.T) {
	v := identity("m", 1, model.Port{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, -1}})
	f := start(t, &identityModels{versions: []*serve.Version{v}}, Config{}, rpc.Config{})
	for _, shape := range [][]int64{{0, 1e9}, {1e9, 0}} {
		req := rawRequest("m", "", "FP32", shape, nil)
		req.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "x_OUT", Parameters: map[string]*pb.InferParameter{
			"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 5}},
		}}}
		resp, err := f.client.ModelInfer(t.Context(), req)
		if err != nil || len(resp.GetRawOutputContents()[0]) != 0 {
			t.Errorf("%v: %v, %v", shape, resp, err)
		}
	}
}
