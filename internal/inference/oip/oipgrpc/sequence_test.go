package oipgrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/stream"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/platform/rpc"
)

// stepRequest gives the test models a number; flags: s start, e end, r resume.
func stepRequest(model, id string, x int64, sequence *pb.InferParameter, flags string) *pb.ModelInferRequest {
	req := rawRequest(model, id, "INT64", []int64{1, 1}, binary.LittleEndian.AppendUint64(nil, uint64(x)))
	req.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y"}}
	req.Parameters = map[string]*pb.InferParameter{}
	if sequence != nil {
		req.Parameters["sequence_id"] = sequence
	}
	for _, f := range flags {
		name := map[rune]string{'s': "sequence_start", 'e': "sequence_end", 'r': "sequence_resume"}[f]
		req.Parameters[name] = &pb.InferParameter{ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}}
	}
	return req
}

func numberID(n int64) *pb.InferParameter {
	return &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: n}}
}

func textID(s string) *pb.InferParameter {
	return &pb.InferParameter{ParameterChoice: &pb.InferParameter_StringParam{StringParam: s}}
}

func y(r *pb.ModelInferResponse) int64 {
	if len(r.GetRawOutputContents()) != 1 {
		return -1
	}
	return int64(binary.LittleEndian.Uint64(r.GetRawOutputContents()[0]))
}

func startSteps(t *testing.T) *fixture {
	t.Helper()
	models, err := stream.New(streamtest.New(t), stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(models.Close)
	return start(t, models, Config{}, rpc.Config{})
}

// Clients that send many steps ahead, of several sequences and their streams' own,
// get what a single thread would have computed; some are cut off.
func TestSequencesOverStreams(t *testing.T) {
	f := startSteps(t)
	var wg sync.WaitGroup
	for client := range 12 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(client)))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := f.client.ModelStreamInfer(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			ids := []*pb.InferParameter{nil, numberID(int64(client + 1)), textID(fmt.Sprint(client + 1))}
			states, began := make([]int64, 3), []bool{true, false, false}
			var want []int64
			var requests []*pb.ModelInferRequest
			for i := range 60 {
				x, at, flags := random.Int64N(1000), random.IntN(3), ""
				if !began[at] || random.IntN(10) == 0 {
					flags, states[at], began[at] = "s", 0, true
				}
				states[at] = streamtest.Roll(states[at], x)
				want = append(want, states[at])
				if random.IntN(10) == 0 {
					flags, states[at], began[at] = flags+"e", 0, at == 0
				}
				requests = append(requests, stepRequest("roll", fmt.Sprint(i), x, ids[at], flags))
			}
			go func() {
				for _, r := range requests {
					if s.Send(r) != nil {
						return
					}
				}
				_ = s.CloseSend()
			}()
			for i, w := range want {
				if client%4 == 3 && i == 20 {
					return // cut off
				}
				got, err := s.Recv()
				if err != nil || got.GetErrorMessage() != "" || y(got.GetInferResponse()) != w || got.GetInferResponse().GetId() != fmt.Sprint(i) {
					t.Errorf("client %d, step %d: %v, %v, want %d", client, i, got, err, w)
					return
				}
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A step that fails halts its sequence on the stream, and no other, until the
// client goes on knowingly.
func TestFailedStepHaltsItsSequence(t *testing.T) {
	f := startSteps(t)
	s := openStream(t, t.Context(), f)
	for _, r := range []*pb.ModelInferRequest{
		stepRequest("roll", "1", 1, nil, ""), stepRequest("roll", "2", 1, textID("a"), "s"), stepRequest("roll", "3", 1000, nil, ""),
		stepRequest("roll", "4", 2, nil, ""), stepRequest("roll", "5", 2, textID("a"), ""), stepRequest("roll", "6", 2, nil, "r"), stepRequest("roll", "7", 3, nil, ""),
	} {
		send(t, s, r)
	}
	one := streamtest.Roll(0, 1)
	two := streamtest.Roll(one, 2)
	for i, want := range []int64{one, one, -1, -1, two, two, streamtest.Roll(two, 3)} {
		got := receive(t, s)
		if y(got.GetInferResponse()) != want || (got.GetErrorMessage() != "") != (want < 0) {
			t.Errorf("step %d: %v, want %d", i+1, got, want)
		}
	}
	if _, err := f.client.ModelInfer(t.Context(), stepRequest("roll", "", 4, textID("a"), "e")); err != nil {
		t.Errorf("a sequence by name outlives its stream: %v", err)
	}
	_, err := f.client.ModelInfer(t.Context(), stepRequest("roll", "", 4, textID("a"), ""))
	wantStatus(t, err, codes.InvalidArgument, "inference request for sequence a to model 'roll' must specify the START flag on the first request of the sequence")
	_, err = f.client.ModelInfer(t.Context(), stepRequest("roll", "", 4, nil, ""))
	wantStatus(t, err, codes.InvalidArgument, "must specify a non-zero or non-empty correlation ID")
	_, err = f.client.ModelInfer(t.Context(), stepRequest("roll", "", 4, numberID(-1), "s"))
	wantStatus(t, err, codes.InvalidArgument, "sequence_id")
}

// A generative model's steps are answers of their own, the last one marked; what
// was sent behind it comes behind it.
func TestGenerationOverStream(t *testing.T) {
	f := startSteps(t)
	s := openStream(t, t.Context(), f)
	first, short := streamtest.Beginning(), stepRequest("write", "short", 1, nil, "")
	short.Parameters["max_steps"] = numberID(2)
	for _, r := range []*pb.ModelInferRequest{stepRequest("write", "long", first, nil, ""), stepRequest("roll", "step", 5, nil, ""), short, stepRequest("write", "bad", 1000, nil, "")} {
		send(t, s, r)
	}
	expect := func(id string, values []int64) {
		t.Helper()
		for i, want := range values {
			got := receive(t, s).GetInferResponse()
			if final := got.GetParameters()["triton_final_response"].GetBoolParam(); got.GetId() != id || y(got) != want || final != (i == len(values)-1) {
				t.Errorf("%s, step %d: %v, want %d", id, i+1, got, want)
			}
		}
	}
	long, _ := streamtest.Written(first, streamtest.MaxSteps)
	expect("long", long)
	expect("step", []int64{streamtest.Roll(0, 5)})
	two, _ := streamtest.Written(1, 2)
	expect("short", two)
	if got := receive(t, s); got.GetErrorMessage() == "" || got.GetInferResponse().GetId() != "bad" {
		t.Errorf("a generation that fails: %v", got)
	}
	_, err := f.client.ModelInfer(t.Context(), stepRequest("write", "", 1, nil, ""))
	wantStatus(t, err, codes.Unimplemented, "answers step by step")
}
