package oipgrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/rpc"
)

// The tests named after a check are the conformance checklist's.

func TestCheck17RawOutputsAlways(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{
		identity("m", 3, port("x", tensor.FP32, -1, 2), port("y", tensor.Bytes, -1), port("z", tensor.Int8, -1)),
	}}, Config{}, rpc.Config{})
	floats := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	words := tensor.AppendBytes(tensor.AppendBytes(nil, "a\xff"), "")
	typed := []*pb.ModelInferRequest_InferInputTensor{
		{Name: "x", Datatype: "FP32", Shape: []int64{1, 2}, Contents: &pb.InferTensorContents{Fp32Contents: []float32{
			math.Float32frombits(binary.LittleEndian.Uint32(floats)), math.Float32frombits(binary.LittleEndian.Uint32(floats[4:])),
		}}},
		{Name: "y", Datatype: "BYTES", Shape: []int64{2}, Contents: &pb.InferTensorContents{BytesContents: [][]byte{[]byte("a\xff"), {}}}},
		{Name: "z", Datatype: "INT8", Shape: []int64{0}},
	}
	raw := []*pb.ModelInferRequest_InferInputTensor{
		{Name: "x", Datatype: "FP32", Shape: []int64{1, 2}}, {Name: "y", Datatype: "BYTES", Shape: []int64{2}}, {Name: "z", Datatype: "INT8", Shape: []int64{0}},
	}
	want := &pb.ModelInferResponse{
		ModelName: "m", ModelVersion: "3", Id: "7",
		Outputs: []*pb.ModelInferResponse_InferOutputTensor{
			{Name: "x_OUT", Datatype: "FP32", Shape: []int64{1, 2}}, {Name: "y_OUT", Datatype: "BYTES", Shape: []int64{2}}, {Name: "z_OUT", Datatype: "INT8", Shape: []int64{0}},
		},
		RawOutputContents: [][]byte{floats, words, {}},
	}
	for name, req := range map[string]*pb.ModelInferRequest{
		"raw":   {ModelName: "m", Id: "7", Inputs: raw, RawInputContents: [][]byte{floats, words, {}}},
		"typed": {ModelName: "m", Id: "7", Inputs: typed},
		"with the outputs named": {ModelName: "m", ModelVersion: "3", Id: "7", Inputs: typed, Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{
			{Name: "x_OUT"}, {Name: "y_OUT"}, {Name: "z_OUT"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := f.client.ModelInfer(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck18TypedInt8InIntContents(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Int8, -1))}}, Config{}, rpc.Config{})
	resp, err := f.client.ModelInfer(t.Context(), typedRequest("INT8", []int64{4}, &pb.InferTensorContents{IntContents: []int32{-128, -1, 0, 127}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetRawOutputContents()[0]; !bytes.Equal(got, []byte{0x80, 0xff, 0, 0x7f}) {
		t.Errorf("raw output % x", got)
	}
	_, err = f.client.ModelInfer(t.Context(), typedRequest("INT8", []int64{2}, &pb.InferTensorContents{IntContents: []int32{1, 128}}))
	wantStatus(t, err, codes.InvalidArgument, "input 'x' for model 'm'", "element 1 is 128", "INT8")
}

func TestCheck19LargeMessages(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))}}, Config{}, rpc.Config{MaxMessageBytes: 80 << 20})
	data := make([]byte, 65<<20)
	fill := rand.NewChaCha8([32]byte{})
	_, _ = fill.Read(data)
	resp, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{65 << 20}, data))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(resp.GetRawOutputContents()[0], data) {
		t.Error("65 MiB did not come back as they were sent")
	}
	_, err = f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{81 << 20}, make([]byte, 81<<20)))
	wantStatus(t, err, codes.ResourceExhausted, "larger than max")
}

func TestMalformedRequests(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.FP32, -1, 2))}}, Config{}, rpc.Config{})
	ok := func(change func(*pb.ModelInferRequest)) *pb.ModelInferRequest {
		req := rawRequest("m", "1", "FP32", []int64{1, 2}, make([]byte, 8))
		change(req)
		return req
	}
	param := func(key string, value *pb.InferParameter) *pb.ModelInferRequest {
		return ok(func(r *pb.ModelInferRequest) { r.Parameters = map[string]*pb.InferParameter{key: value} })
	}
	output := func(key string, value *pb.InferParameter) *pb.ModelInferRequest {
		return ok(func(r *pb.ModelInferRequest) {
			r.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "x_OUT", Parameters: map[string]*pb.InferParameter{key: value}}}
		})
	}
	whole := func(n int64) *pb.InferParameter {
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: n}}
	}
	text := func(s string) *pb.InferParameter {
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_StringParam{StringParam: s}}
	}
	for name, tt := range map[string]struct {
		req  *pb.ModelInferRequest
		code codes.Code
		want []string
	}{
		"no model":        {&pb.ModelInferRequest{}, codes.NotFound, []string{"unknown model"}},
		"unknown model":   {ok(func(r *pb.ModelInferRequest) { r.ModelName = "none" }), codes.NotFound, []string{"'none'"}},
		"unknown version": {ok(func(r *pb.ModelInferRequest) { r.ModelVersion = "9" }), codes.NotFound, nil},
		"unknown input":   {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Name = "w" }), codes.InvalidArgument, []string{"'w'"}},
		"unknown output": {ok(func(r *pb.ModelInferRequest) {
			r.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "w"}}
		}), codes.InvalidArgument, []string{"'w'"}},
		"unknown datatype":   {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "FP31" }), codes.InvalidArgument, []string{"'x'", `"FP31"`, "FP32"}},
		"no datatype":        {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "" }), codes.InvalidArgument, []string{"'x'", `datatype ""`}},
		"datatype INVALID":   {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "INVALID" }), codes.InvalidArgument, []string{"'x'"}},
		"truncated raw":      {ok(func(r *pb.ModelInferRequest) { r.RawInputContents[0] = make([]byte, 7) }), codes.InvalidArgument, []string{"'x'", "8 bytes, got 7"}},
		"too much raw":       {ok(func(r *pb.ModelInferRequest) { r.RawInputContents[0] = make([]byte, 9) }), codes.InvalidArgument, []string{"'x'", "8 bytes, got 9"}},
		"raw entry left out": {ok(func(r *pb.ModelInferRequest) { r.Inputs = append(r.Inputs, r.Inputs[0]) }), codes.InvalidArgument, []string{"each of the 2 inputs", "got 1"}},
		"raw entry too many": {ok(func(r *pb.ModelInferRequest) { r.RawInputContents = append(r.RawInputContents, nil) }), codes.InvalidArgument, []string{"got 2"}},
		"no data":            {ok(func(r *pb.ModelInferRequest) { r.RawInputContents = nil }), codes.InvalidArgument, []string{"'x'", "calls for 2 elements", "raw_input_contents"}},
		"both typed and raw": {ok(func(r *pb.ModelInferRequest) {
			r.Inputs[0].Contents = &pb.InferTensorContents{Fp32Contents: []float32{1, 2}}
		}), codes.InvalidArgument, []string{"'x'", "exclude each other"}},
		"negative extent": {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Shape = []int64{-1, 2} }), codes.InvalidArgument, []string{"'x'", "[-1,2]"}},
		"overflow in the product": {ok(func(r *pb.ModelInferRequest) { r.Inputs[0].Shape = []int64{1 << 40, 1 << 40} }), codes.InvalidArgument,
			[]string{"'x'", "63 bits"}},
		"overflow in the product of a typed input": {typedRequest("FP32", []int64{1 << 62, 8}, &pb.InferTensorContents{Fp32Contents: []float32{1}}), codes.InvalidArgument,
			[]string{"'x'", "63 bits"}},
		"huge typed shape":  {typedRequest("INT64", []int64{1 << 60}, &pb.InferTensorContents{Int64Contents: []int64{1}}), codes.InvalidArgument, []string{"calls for 1152921504606846976"}},
		"typed too few":     {typedRequest("FP32", []int64{1, 2}, &pb.InferTensorContents{Fp32Contents: []float32{1}}), codes.InvalidArgument, []string{"calls for 2 elements, fp32_contents has 1"}},
		"typed too many":    {typedRequest("FP32", []int64{1, 2}, &pb.InferTensorContents{Fp32Contents: []float32{1, 2, 3}}), codes.InvalidArgument, []string{"calls for 2 elements, fp32_contents has more"}},
		"wrong typed field": {typedRequest("FP32", []int64{1, 2}, &pb.InferTensorContents{Fp64Contents: []float64{1, 2}}), codes.InvalidArgument, []string{"fp32_contents, not in fp64_contents"}},
		"typed FP16":        {typedRequest("FP16", []int64{1, 2}, &pb.InferTensorContents{Fp32Contents: []float32{1, 2}}), codes.InvalidArgument, []string{"FP16", "raw_input_contents"}},
		"typed BF16":        {typedRequest("BF16", []int64{1, 2}, nil), codes.InvalidArgument, []string{"BF16", "raw_input_contents"}},
		"shared memory input": {ok(func(r *pb.ModelInferRequest) {
			r.Inputs[0].Parameters = map[string]*pb.InferParameter{"shared_memory_region": text("r")}
		}), codes.Unimplemented, []string{"'x'", "shared memory"}},
		"shared memory output":        {output("shared_memory_region", text("r")), codes.Unimplemented, []string{"'x_OUT'", "shared memory"}},
		"classification 0":            {output("classification", whole(0)), codes.InvalidArgument, []string{"'x_OUT'", "classification"}},
		"classification -1":           {output("classification", whole(-1)), codes.InvalidArgument, []string{"classification"}},
		"classification text":         {output("classification", text("2")), codes.InvalidArgument, []string{"classification"}},
		"sequence id":                 {param("sequence_id", whole(5)), codes.InvalidArgument, []string{"'sequence_id'", "'m'"}},
		"sequence id as text":         {param("sequence_id", text("s")), codes.InvalidArgument, []string{"'sequence_id'"}},
		"sequence start":              {param("sequence_start", &pb.InferParameter{ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}}), codes.InvalidArgument, []string{"'sequence_start'"}},
		"negative timeout":            {param("timeout", whole(-1)), codes.InvalidArgument, []string{"'timeout'"}},
		"timeout beyond a duration":   {param("timeout", whole(math.MaxInt64)), codes.InvalidArgument, []string{"'timeout'"}},
		"timeout as text":             {param("timeout", text("1")), codes.InvalidArgument, []string{"'timeout'", "int64_param"}},
		"priority beyond 31 bits":     {param("priority", whole(1<<31)), codes.InvalidArgument, []string{"'priority'"}},
		"reserved parameter":          {param("triton_x", whole(1)), codes.InvalidArgument, []string{"'triton_x'", "reserved"}},
		"empty final as a number":     {param("triton_enable_empty_final_response", whole(1)), codes.InvalidArgument, []string{"bool_param"}},
		"parameter without a value":   {param("mine", &pb.InferParameter{}), codes.InvalidArgument, []string{"'mine'", "no value"}},
		"sequence id without a value": {param("sequence_id", &pb.InferParameter{}), codes.InvalidArgument, []string{"'sequence_id'", "no value"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.client.ModelInfer(t.Context(), tt.req)
			wantStatus(t, err, tt.code, tt.want...)
		})
	}
	if _, err := f.client.ModelInfer(t.Context(), ok(func(*pb.ModelInferRequest) {})); err != nil {
		t.Errorf("a good request after the bad ones: %v", err)
	}
}

func TestBytesThatAreNoMessage(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.FP32, -1, 2))}}, Config{}, rpc.Config{})
	for name, bad := range map[string][]byte{
		"length past the end":      {0x0a, 0x7f, 'm'},
		"tag cut off":              {0x80},
		"field number 0":           {0x02, 0x00},
		"name that is not UTF-8":   {0x0a, 0x01, 0xff},
		"input that is no message": {0x2a, 0x02, 0x0a, 0x7f},
		"unclosed group":           {0x0b},
	} {
		t.Run(name, func(t *testing.T) {
			var out []byte
			err := f.conn.Invoke(t.Context(), pb.GRPCInferenceService_ModelInfer_FullMethodName, &bad, &out, grpc.ForceCodecV2(bytesCodec{Codec()}))
			wantStatus(t, err, codes.InvalidArgument, "ModelInferRequest is malformed")
		})
	}
}

func TestParametersReachTheRequest(t *testing.T) {
	var got serve.Request
	f := start(t, &identityModels{
		versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))},
		run:      func(_ context.Context, req *serve.Request) error { got = *req; return nil },
	}, Config{}, rpc.Config{})
	ask := func(ctx context.Context, params map[string]*pb.InferParameter) {
		t.Helper()
		req := rawRequest("m", "id-1", "UINT8", []int64{1}, []byte{1})
		req.Parameters = params
		if _, err := f.client.ModelInfer(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	ask(t.Context(), map[string]*pb.InferParameter{
		"priority":                           {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: 3}},
		"timeout":                            {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 1500}},
		"sequence_id":                        {ParameterChoice: &pb.InferParameter_StringParam{}},
		"binary_data_output":                 {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
		"mine":                               {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 1}},
		"triton_enable_empty_final_response": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
	})
	if got.ID != "id-1" || got.Priority != 3 || got.Timeout != 1500*time.Microsecond {
		t.Errorf("id %q, priority %d, timeout %s", got.ID, got.Priority, got.Timeout)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	ask(ctx, nil)
	if got.Timeout <= 59*time.Minute || got.Timeout > time.Hour {
		t.Errorf("under a deadline of an hour the timeout is %s", got.Timeout)
	}
	ask(ctx, map[string]*pb.InferParameter{"timeout": {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: 7}}})
	if got.Timeout != 7*time.Microsecond {
		t.Errorf("the smaller of timeout and deadline should count, got %s", got.Timeout)
	}
}

func TestClassification(t *testing.T) {
	v := identity("m", 1, port("x", tensor.Int32, -1, 3))
	v.Signature.Outputs[0].Labels = []string{"cat", "dog"}
	f := start(t, &identityModels{versions: []*serve.Version{v}}, Config{}, rpc.Config{})
	req := typedRequest("INT32", []int64{2, 3}, &pb.InferTensorContents{IntContents: []int32{-5, 7, 7, 9, 8, 10}})
	req.Outputs = []*pb.ModelInferRequest_InferRequestedOutputTensor{
		{Name: "x_OUT", Parameters: map[string]*pb.InferParameter{"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 2}}}},
		{Name: "x_OUT"},
	}
	resp, err := f.client.ModelInfer(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.ModelInferResponse_InferOutputTensor{Name: "x_OUT", Datatype: "BYTES", Shape: []int64{2, 2}}
	if diff := cmp.Diff(want, resp.GetOutputs()[0], protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	var got []string
	for e := range tensor.Elements(resp.GetRawOutputContents()[0]) {
		got = append(got, string(e))
	}
	if diff := cmp.Diff([]string{"7:1:dog", "7:2", "10:2", "9:0:cat"}, got); diff != "" {
		t.Error(diff)
	}
	if resp.GetOutputs()[1].GetDatatype() != "INT32" || len(resp.GetRawOutputContents()[1]) != 24 {
		t.Errorf("the same output without classification: %v", resp.GetOutputs()[1])
	}
}

func TestCompressedRequests(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))}}, Config{}, rpc.Config{})
	data := bytes.Repeat([]byte("abc"), 50_000)
	for _, name := range []string{gzip.Name, "deflate"} {
		for range 3 { // pooled compressors are used again
			resp, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{150_000}, data), grpc.UseCompressor(name))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(resp.GetRawOutputContents()[0], data) {
				t.Errorf("%s: the data came back changed", name)
			}
		}
	}
}

func TestHeldMemoryIsBounded(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := start(t, &identityModels{
		versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))},
		run: func(context.Context, *serve.Request) error {
			entered <- struct{}{}
			<-leave
			return nil
		},
	}, Config{Memory: budget.New(1000, "grpc.max_held")}, rpc.Config{})
	big := func() error {
		_, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{1500}, make([]byte, 1500)))
		return err
	}
	first := make(chan error, 1)
	go func() { first <- big() }()
	<-entered // one request of any size is taken
	wantStatus(t, big(), codes.Unavailable, "grpc.max_held", "1000")
	close(leave)
	if err := <-first; err != nil {
		t.Error(err)
	}
	go func() { first <- big() }()
	<-entered
	if err := <-first; err != nil {
		t.Errorf("after the first one is answered: %v", err)
	}
}

func TestPanicIsAnInternalErrorThatTellsNothing(t *testing.T) {
	var seen error
	f := start(t, &identityModels{
		versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))},
		run:      func(context.Context, *serve.Request) error { panic("secret") },
	}, Config{}, rpc.Config{Observers: []rpc.Observer{func(_ context.Context, c rpc.Call) { seen = c.Err }}})
	_, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{1}, []byte{1}))
	wantStatus(t, err, codes.Internal, "internal error")
	if strings.Contains(err.Error(), "secret") || !strings.Contains(seen.Error(), "secret") {
		t.Errorf("client saw %v, observer %v", err, seen)
	}
}

func TestCancelAndDeadlineReachTheModel(t *testing.T) {
	ended := make(chan error, 1)
	entered := make(chan struct{}, 1)
	f := start(t, &identityModels{
		versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))},
		run: func(ctx context.Context, _ *serve.Request) error {
			entered <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		},
	}, Config{}, rpc.Config{})
	req := rawRequest("m", "", "UINT8", []int64{1}, []byte{1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := f.client.ModelInfer(ctx, req)
	wantStatus(t, err, codes.Canceled)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the model saw %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = f.client.ModelInfer(ctx, req)
	wantStatus(t, err, codes.DeadlineExceeded)
	<-ended
}

func TestOverloadSaysWhenToRetry(t *testing.T) {
	f := start(t, &identityModels{
		versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))},
		run: func(context.Context, *serve.Request) error {
			return fault.New(fault.Unavailable, "Exceeds maximum queue size").WithRetryAfter(2 * time.Second)
		},
	}, Config{}, rpc.Config{})
	_, err := f.client.ModelInfer(t.Context(), rawRequest("m", "", "UINT8", []int64{1}, []byte{1}))
	wantStatus(t, err, codes.Unavailable, "Exceeds maximum queue size")
	if details := status.Convert(err).Details(); len(details) != 1 {
		t.Errorf("details %v", details)
	}
}

func TestRequestIDComesBack(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{identity("m", 1, port("x", tensor.Uint8, -1))}}, Config{}, rpc.Config{})
	var header metadata.MD
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "abc-1")
	if _, err := f.client.ModelInfer(ctx, rawRequest("m", "", "UINT8", []int64{1}, []byte{1}), grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if got := header.Get("x-request-id"); len(got) != 1 || got[0] != "abc-1" {
		t.Errorf("x-request-id %q", got)
	}
}

func TestErrorsNameTheRequest(t *testing.T) {
	f := start(t, &identityModels{versions: []*serve.Version{byteModel()}}, Config{}, rpc.Config{})
	long := strings.Repeat("ä", 100_000) // as it is, it would not fit into a header
	for id, want := range map[string]string{
		"a b%": "[request id: a b%] input 'x'", "": "input 'x'", long: "[request id: " + long[:196] + "…] input 'x'",
	} {
		_, err := f.client.ModelInfer(t.Context(), rawRequest("m", id, "FP31", []int64{1}, []byte{1}))
		wantStatus(t, err, codes.InvalidArgument)
		if got := status.Convert(err).Message(); !strings.HasPrefix(got, want) {
			t.Errorf("message %q, expected it to start %q", got, want)
		}
	}
}

// wantStatus checks an error's code and that its message has the parts.
func wantStatus(t *testing.T, err error, code codes.Code, parts ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Errorf("status %s (%s), want %s", st.Code(), st.Message(), code)
	}
	for _, part := range parts {
		if !strings.Contains(st.Message(), part) {
			t.Errorf("message %q does not mention %q", st.Message(), part)
		}
	}
}
