package oipgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/rpc"
)

func byteModel() *serve.Version { return identity("m", 1, port("x", tensor.Uint8, -1)) }

func openStream(t *testing.T, ctx context.Context, f *fixture) pb.GRPCInferenceService_ModelStreamInferClient {
	t.Helper()
	stream, err := f.client.ModelStreamInfer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func byteRequest(id string, b ...byte) *pb.ModelInferRequest {
	return rawRequest("m", id, "UINT8", []int64{int64(len(b))}, b)
}

func send(t *testing.T, stream pb.GRPCInferenceService_ModelStreamInferClient, req *pb.ModelInferRequest) {
	t.Helper()
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, stream pb.GRPCInferenceService_ModelStreamInferClient) *pb.ModelStreamInferResponse {
	t.Helper()
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestCheck20StreamErrorKeepsTheStream(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	stream := openStream(t, t.Context(), f)
	bad := byteRequest("2", 9)
	bad.Inputs[0].Datatype = "FP31"
	unknown := byteRequest("3", 9)
	unknown.ModelName, unknown.ModelVersion = "none", "7"
	for _, req := range []*pb.ModelInferRequest{byteRequest("1", 1), bad, unknown, byteRequest("4", 4)} {
		send(t, stream, req)
	}
	for _, want := range []struct{ id, model, version, message string }{
		{"1", "m", "1", ""},
		{"2", "m", "1", `[request id: 2] input 'x' for model 'm': unknown datatype "FP31": use one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES`},
		{"3", "none", "7", "[request id: 3] Request for unknown model: 'none' is not found"},
		{"4", "m", "1", ""},
	} {
		got := receive(t, stream)
		r := got.GetInferResponse()
		if r.GetId() != want.id || r.GetModelName() != want.model || r.GetModelVersion() != want.version || got.GetErrorMessage() != want.message {
			t.Errorf("got id %q model %q version %q message %q, want %+v", r.GetId(), r.GetModelName(), r.GetModelVersion(), got.GetErrorMessage(), want)
		}
		if outputs := len(r.GetRawOutputContents()); outputs != map[bool]int{true: 1, false: 0}[want.message == ""] {
			t.Errorf("answer %s has %d outputs", want.id, outputs)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v, want the stream's orderly end", err)
	}
}

func TestCheck20StatusErrorsEndTheStreamWhereAskedFor(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	stream := openStream(t, metadata.AppendToOutgoingContext(t.Context(), "triton_grpc_error", "true"), f)
	send(t, stream, byteRequest("1", 1))
	receive(t, stream)
	unknown := byteRequest("2", 1)
	unknown.ModelName = "none"
	send(t, stream, unknown)
	_, err := stream.Recv()
	wantStatus(t, err, codes.NotFound, "[request id: 2] ", "'none'")
}

func TestCheck21FinalResponseIsMarked(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	stream := openStream(t, t.Context(), f)
	plain, asked, failing := byteRequest("1", 1), byteRequest("2", 2), byteRequest("3", 3)
	asked.Parameters = map[string]*pb.InferParameter{"triton_enable_empty_final_response": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}}}
	failing.ModelName = "none"
	for _, req := range []*pb.ModelInferRequest{plain, asked, failing} {
		send(t, stream, req)
		got := receive(t, stream).GetInferResponse()
		if got.GetId() != req.GetId() || !got.GetParameters()["triton_final_response"].GetBoolParam() {
			t.Errorf("answer %q to %q has parameters %v", got.GetId(), req.GetId(), got.GetParameters())
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if extra, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("one answer each, but then came %v, %v", extra, err)
	}
	resp, err := f.client.ModelInfer(t.Context(), plain)
	if err != nil || len(resp.GetParameters()) != 0 {
		t.Errorf("outside a stream: parameters %v, %v", resp.GetParameters(), err)
	}
}

// Requests run side by side up to the depth, whatever order they end in the
// answers keep the requests' order, and beyond the depth nothing is read.
func TestStreamDepthAndOrder(t *testing.T) {
	const depth, requests = 4, 40
	var running, peak atomic.Int32
	turns := make([]chan struct{}, requests)
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	entered := make(chan byte, requests)
	f := start(t, &identityModels{
		versions: []*serve.Version{byteModel()},
		run: func(_ context.Context, req *serve.Request) error {
			n := running.Add(1)
			for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
			}
			entered <- req.Inputs[0].Data[0]
			<-turns[req.Inputs[0].Data[0]]
			running.Add(-1)
			return nil
		},
	}, Config{StreamDepth: depth}, rpc.Config{})
	stream := openStream(t, t.Context(), f)
	go func() {
		for i := range requests {
			if stream.Send(byteRequest(fmt.Sprint(i), byte(i))) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	}()
	for first := 0; first < requests; first += depth {
		for range depth {
			<-entered
		}
		for i := first + depth - 1; i >= first; i-- { // the youngest ends first
			close(turns[i])
		}
		for i := first; i < first+depth; i++ {
			if got := receive(t, stream).GetInferResponse(); got.GetId() != fmt.Sprint(i) || got.GetRawOutputContents()[0][0] != byte(i) {
				t.Fatalf("answer %d is %q with %v", i, got.GetId(), got.GetRawOutputContents())
			}
		}
	}
	if peak.Load() != depth {
		t.Errorf("%d requests ran at once, want %d", peak.Load(), depth)
	}
}

// A client that sends and never reads is not read from for ever.
func TestStreamBackpressure(t *testing.T) {
	var served atomic.Int64
	f := start(t, &identityModels{
		versions: []*serve.Version{byteModel()},
		run:      func(context.Context, *serve.Request) error { served.Add(1); return nil },
	}, Config{StreamDepth: 2}, rpc.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := openStream(t, ctx, f)
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; n < 2000; n++ {
			if stream.Send(byteRequest("", make([]byte, 100_000)...)) != nil {
				break
			}
		}
		sent <- n
	}()
	select {
	case n := <-sent:
		t.Fatalf("the server took %d requests of a client that reads no answers", n)
	case <-time.After(500 * time.Millisecond): // stuck, as it should be
	}
	before := served.Load()
	for range 50 {
		receive(t, stream)
	}
	cancel()
	if n := <-sent; int64(n) < before {
		t.Errorf("%d sent, %d served", n, before)
	}
}

func TestStreamEndsWithItsClient(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 8)
	f := start(t, &identityModels{
		versions: []*serve.Version{byteModel()},
		run: func(ctx context.Context, _ *serve.Request) error {
			entered <- struct{}{}
			<-ctx.Done()
			left <- ctx.Err()
			return ctx.Err()
		},
	}, Config{}, rpc.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	stream := openStream(t, ctx, f)
	for range 5 {
		send(t, stream, byteRequest("", 1))
		<-entered
	}
	cancel()
	for range 5 {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the model saw %v", err)
		}
	}
}

func TestStreamSurvivesPanicsAndGarbage(t *testing.T) {
	f := start(t, &identityModels{
		versions: []*serve.Version{byteModel()},
		run: func(_ context.Context, req *serve.Request) error {
			if req.Inputs[0].Data[0] == 13 {
				panic("unlucky")
			}
			return nil
		},
	}, Config{}, rpc.Config{})
	stream := openStream(t, t.Context(), f)
	send(t, stream, byteRequest("1", 13))
	if got := receive(t, stream); got.GetErrorMessage() != "internal error" || got.GetInferResponse().GetId() != "1" {
		t.Errorf("answer to a panic: %v", got)
	}
	send(t, stream, byteRequest("2", 2))
	if got := receive(t, stream); got.GetErrorMessage() != "" {
		t.Errorf("answer after a panic: %v", got)
	}
}

// A graceful stop answers everything that was taken, then ends the stream with
// a status that tells the client to go elsewhere.
func TestGracefulStopUnderStreamingLoad(t *testing.T) {
	const streams = 4
	f := start(t, &identityModels{
		versions: []*serve.Version{byteModel()},
		run: func(ctx context.Context, _ *serve.Request) error {
			select {
			case <-time.After(2 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return fault.Of(ctx.Err())
			}
		},
	}, Config{StreamDepth: 8}, rpc.Config{})
	results := make(chan error, streams)
	warm := make(chan struct{}, streams)
	for range streams {
		stream := openStream(t, t.Context(), f)
		go func() { // sends until it cannot
			for i := 0; stream.Send(byteRequest(fmt.Sprint(i), byte(i))) == nil; i++ {
			}
		}()
		go func() {
			for i := 0; ; i++ {
				resp, err := stream.Recv()
				if err != nil {
					results <- err
					return
				}
				if got := resp.GetInferResponse(); got.GetId() != fmt.Sprint(i) || resp.GetErrorMessage() != "" || got.GetRawOutputContents()[0][0] != byte(i) {
					results <- fmt.Errorf("answer %d is %v", i, resp)
					return
				}
				if i == 20 {
					warm <- struct{}{}
				}
			}
		}()
	}
	for range streams {
		<-warm
	}
	begun := time.Now()
	f.stop()
	for range streams {
		wantStatus(t, <-results, codes.Unavailable, "stopping")
	}
	if err := <-f.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	f.stopped <- nil
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
}
