package oipgrpc

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"sluice/internal/inference/model"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/rpc"
)

func twoModels() *identityModels {
	b := identity("b", 1, port("x", tensor.FP32, 2))
	b.Batches, b.MaxRows, b.CrossRequest = false, 0, false
	return &identityModels{versions: []*serve.Version{
		identity("a", 1, port("x", tensor.FP32, -1, 2)), identity("a", 12, port("x", tensor.FP32, -1, 2), port("s", tensor.Bytes, -1)), b,
	}}
}

func TestCheck13EmptyIndexRequest(t *testing.T) {
	f := start(t, twoModels(), Config{}, rpc.Config{})
	got, err := f.client.RepositoryIndex(t.Context(), &pb.RepositoryIndexRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.RepositoryIndexResponse{Models: []*pb.RepositoryIndexResponse_ModelIndex{
		{Name: "broken", State: "UNAVAILABLE", Reason: "no version"},
		{Name: "a", Version: "1", State: "READY"}, {Name: "a", Version: "12", State: "READY"}, {Name: "b", Version: "1", State: "READY"},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	got, err = f.client.RepositoryIndex(t.Context(), &pb.RepositoryIndexRequest{Ready: true})
	if err != nil || len(got.GetModels()) != 3 {
		t.Errorf("only ready ones: %v, %v", got, err)
	}
	_, err = f.client.RepositoryIndex(t.Context(), &pb.RepositoryIndexRequest{RepositoryName: "r"})
	wantStatus(t, err, codes.Unimplemented, "'repository_name'")
}

func TestCheck14And15Statistics(t *testing.T) {
	f := start(t, twoModels(), Config{}, rpc.Config{})
	for n := range uint64(4) {
		resp, err := f.client.ModelStatistics(t.Context(), &pb.ModelStatisticsRequest{Name: "b", Version: "1"})
		if err != nil || len(resp.GetModelStats()) != 1 {
			t.Fatal(resp, err)
		}
		s := resp.GetModelStats()[0]
		g := s.GetInferenceStats()
		for name, group := range map[string]*pb.StatisticDuration{
			"success": g.GetSuccess(), "queue": g.GetQueue(), "compute_input": g.GetComputeInput(),
			"compute_infer": g.GetComputeInfer(), "compute_output": g.GetComputeOutput(),
		} {
			if group == nil || group.GetCount() != n {
				t.Errorf("after %d requests %s is %v", n, name, group)
			}
		}
		if g.GetFail() == nil || g.GetCacheHit() == nil || g.GetCacheMiss() == nil {
			t.Errorf("after %d requests a group is missing: %v", n, g)
		}
		if s.GetName() != "b" || s.GetVersion() != "1" || s.GetInferenceCount() != n || s.GetExecutionCount() != n {
			t.Errorf("after %d requests: %v", n, s)
		}
		if n > 0 && (len(s.GetBatchStats()) != 1 || s.GetBatchStats()[0].GetBatchSize() != 1 || s.GetBatchStats()[0].GetComputeInfer().GetCount() != n) {
			t.Errorf("after %d requests the batch statistics are %v", n, s.GetBatchStats())
		}
		req := rawRequest("b", "", "FP32", []int64{2}, make([]byte, 8))
		if _, err := f.client.ModelInfer(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]string{"": {"a/1", "a/12", "b/1"}, "a": {"a/1", "a/12"}} {
		resp, err := f.client.ModelStatistics(t.Context(), &pb.ModelStatisticsRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range resp.GetModelStats() {
			got = append(got, s.GetName()+"/"+s.GetVersion())
		}
		if !slices.Equal(got, want) {
			t.Errorf("statistics of %q are of %v, want %v", name, got, want)
		}
	}
	_, err := f.client.ModelStatistics(t.Context(), &pb.ModelStatisticsRequest{Name: "none"})
	wantStatus(t, err, codes.InvalidArgument, "requested model 'none' is not available")
	_, err = f.client.ModelStatistics(t.Context(), &pb.ModelStatisticsRequest{Name: "a", Version: "99"})
	wantStatus(t, err, codes.InvalidArgument, "requested model 'a' is not available")
}

func TestServerAndModelMetadata(t *testing.T) {
	models := twoModels()
	newest := models.versions[1] // a/12, which answers requests that name no version
	newest.SHA256, newest.CrossRequest, newest.Invariance = "5e1f", false, "a row's answer changes"
	f := start(t, models, Config{Name: "sluice", Version: "1.2", Extensions: []string{"statistics"}}, rpc.Config{})
	ctx := t.Context()
	live, err := f.client.ServerLive(ctx, &pb.ServerLiveRequest{})
	if err != nil || !live.GetLive() {
		t.Error(live, err)
	}
	ready, err := f.client.ServerReady(ctx, &pb.ServerReadyRequest{})
	if err != nil || !ready.GetReady() {
		t.Error(ready, err)
	}
	server, err := f.client.ServerMetadata(ctx, &pb.ServerMetadataRequest{})
	if err != nil || !proto.Equal(server, &pb.ServerMetadataResponse{Name: "sluice", Version: "1.2", Extensions: []string{"statistics"}}) {
		t.Error(server, err)
	}
	for _, tt := range []struct {
		name, version string
		want          bool
	}{{"a", "", true}, {"a", "12", true}, {"a", "3", false}, {"none", "", false}} {
		got, err := f.client.ModelReady(ctx, &pb.ModelReadyRequest{Name: tt.name, Version: tt.version})
		if err != nil || got.GetReady() != tt.want {
			t.Errorf("ready %s/%s: %v, %v", tt.name, tt.version, got, err)
		}
	}
	got, err := f.client.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.ModelMetadataResponse{
		Name: "a", Versions: []string{"1", "12"}, Platform: "onnxruntime_onnx",
		Inputs: []*pb.ModelMetadataResponse_TensorMetadata{
			{Name: "x", Datatype: "FP32", Shape: []int64{-1, 2}}, {Name: "s", Datatype: "BYTES", Shape: []int64{-1}},
		},
		Outputs: []*pb.ModelMetadataResponse_TensorMetadata{
			{Name: "x_OUT", Datatype: "FP32", Shape: []int64{-1, 2}}, {Name: "s_OUT", Datatype: "BYTES", Shape: []int64{-1}},
		},
		Properties: map[string]string{"sha256": "5e1f", "batching": "within one request", "batch_invariance": "a row's answer changes"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	got, err = f.client.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: "a", Version: "1"})
	if err != nil || !slices.Equal(got.GetVersions(), []string{"1"}) || len(got.GetInputs()) != 1 || got.GetProperties()["batching"] != "across requests" {
		t.Error(got, err)
	}
	_, err = f.client.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: "none"})
	wantStatus(t, err, codes.NotFound, "'none'")
}

func TestModelConfig(t *testing.T) {
	models := twoModels()
	rows := 32
	config := model.Config{
		Name: "a", MaxBatchSize: &rows, Filename: "model.onnx",
		Policy:     model.VersionPolicy{Specific: []int64{1, 12}},
		Batching:   &model.Batching{PreferredSizes: []int{4, 8}, MaxQueueDelay: time.Millisecond, TimeoutDelay: true, PriorityLevels: 2},
		Execution:  model.Execution{Executors: 2},
		Warmup:     []model.Warmup{{Name: "w", BatchSize: 1, Inputs: map[string]model.WarmupInput{"x": {Datatype: tensor.FP32, Dims: tensor.Shape{2}, Random: true}}}},
		Parameters: map[string]string{"k": "v"},
	}
	models.versions[0].Config, models.versions[1].Config = config, config
	models.versions[1].CrossRequest = false
	f := start(t, models, Config{}, rpc.Config{})
	get := func(name, version string) *pb.ModelConfig {
		t.Helper()
		resp, err := f.client.ModelConfig(t.Context(), &pb.ModelConfigRequest{Name: name, Version: version})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetConfig()
	}
	got := get("a", "1")
	if got.GetName() != "a" || got.GetPlatform() != "onnxruntime_onnx" || got.GetBackend() != "onnxruntime" || got.GetMaxBatchSize() != 32 ||
		got.GetDefaultModelFilename() != "model.onnx" || !slices.Equal(got.GetVersionPolicy().GetSpecific().GetVersions(), []int64{1, 12}) {
		t.Errorf("config %v", got)
	}
	if in := got.GetInput(); len(in) != 1 || !proto.Equal(in[0], &pb.ModelInput{Name: "x", DataType: pb.DataType_TYPE_FP32, Dims: []int64{2}}) {
		t.Errorf("inputs %v", in)
	}
	if out := got.GetOutput(); len(out) != 1 || !proto.Equal(out[0], &pb.ModelOutput{Name: "x_OUT", DataType: pb.DataType_TYPE_FP32, Dims: []int64{2}}) {
		t.Errorf("outputs %v", out)
	}
	if g := got.GetInstanceGroup(); len(g) != 1 || g[0].GetKind() != pb.ModelInstanceGroup_KIND_CPU || g[0].GetCount() != 2 {
		t.Errorf("instance group %v", g)
	}
	b := got.GetDynamicBatching()
	if !slices.Equal(b.GetPreferredBatchSize(), []int32{4, 8}) || b.GetMaxQueueDelayMicroseconds() != 1000 || b.GetPriorityLevels() != 2 ||
		b.GetDefaultQueuePolicy().GetTimeoutAction() != pb.ModelQueuePolicy_DELAY {
		t.Errorf("dynamic batching %v", b)
	}
	if w := got.GetModelWarmup(); len(w) != 1 || !w[0].GetInputs()["x"].GetRandomData() || got.GetParameters()["k"].GetStringValue() != "v" {
		t.Errorf("warm-up %v, parameters %v", w, got.GetParameters())
	}
	if c := get("a", "12"); c.GetDynamicBatching() != nil || c.GetMaxBatchSize() != 32 {
		t.Errorf("a model whose requests do not share runs: %v", c)
	}
	if c := get("b", ""); c.GetMaxBatchSize() != 0 || c.GetDynamicBatching() != nil || !slices.Equal(c.GetInput()[0].GetDims(), []int64{2}) {
		t.Errorf("a model that does not batch: %v", c)
	}
}

func TestLoadAndUnload(t *testing.T) {
	models := twoModels()
	f := start(t, models, Config{}, rpc.Config{})
	text := func(s string) *pb.ModelRepositoryParameter {
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_StringParam{StringParam: s}}
	}
	blob := func(s string) *pb.ModelRepositoryParameter {
		return &pb.ModelRepositoryParameter{ParameterChoice: &pb.ModelRepositoryParameter_BytesParam{BytesParam: []byte(s)}}
	}
	load := func(req *pb.RepositoryModelLoadRequest) error {
		_, err := f.client.RepositoryModelLoad(t.Context(), req)
		return err
	}
	if err := load(&pb.RepositoryModelLoadRequest{ModelName: "new", Parameters: map[string]*pb.ModelRepositoryParameter{
		"config": text("{}"), "file:1/model.onnx": blob("onnx"),
	}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(serve.LoadOptions{ConfigJSON: "{}", Files: map[string][]byte{"1/model.onnx": []byte("onnx")}}, models.loads["new"]); diff != "" {
		t.Error(diff)
	}
	if err := load(&pb.RepositoryModelLoadRequest{RepositoryName: "kserve"}); err != nil {
		t.Errorf("KServe's form: %v", err)
	}
	if _, ok := models.loads["kserve"]; !ok {
		t.Error("the model in KServe's field was not loaded")
	}
	wantStatus(t, load(&pb.RepositoryModelLoadRequest{}), codes.InvalidArgument, "model_name")
	wantStatus(t, load(&pb.RepositoryModelLoadRequest{RepositoryName: "r", ModelName: "m"}), codes.Unimplemented, "'repository_name'")
	for key, value := range map[string]*pb.ModelRepositoryParameter{"config": blob("{}"), "file:x": text("y"), "other": text("z"), "none": {}} {
		wantStatus(t, load(&pb.RepositoryModelLoadRequest{ModelName: "m", Parameters: map[string]*pb.ModelRepositoryParameter{key: value}}), codes.InvalidArgument, "'"+key+"'")
	}
	if _, err := f.client.RepositoryModelUnload(t.Context(), &pb.RepositoryModelUnloadRequest{ModelName: "a", Parameters: map[string]*pb.ModelRepositoryParameter{
		"unload_dependents": {ParameterChoice: &pb.ModelRepositoryParameter_BoolParam{BoolParam: true}},
	}}); err != nil || !slices.Equal(models.unloads, []string{"a"}) {
		t.Errorf("unload: %v, %v", models.unloads, err)
	}
	_, err := f.client.RepositoryModelUnload(t.Context(), &pb.RepositoryModelUnloadRequest{ModelName: "a", Parameters: map[string]*pb.ModelRepositoryParameter{"x": text("")}})
	wantStatus(t, err, codes.InvalidArgument, "'x'")
}

// Every method of the service answers; none falls through to the generated
// "method not implemented".
func TestMethodsThatAreNotOffered(t *testing.T) {
	f := start(t, twoModels(), Config{}, rpc.Config{})
	offered := []string{
		"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig", "ModelStatistics",
		"RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
	}
	for _, m := range pb.GRPCInferenceService_ServiceDesc.Methods {
		if slices.Contains(offered, m.MethodName) {
			continue
		}
		var none []byte
		err := f.conn.Invoke(t.Context(), "/inference.GRPCInferenceService/"+m.MethodName, &none, &none, grpc.ForceCodecV2(bytesCodec{Codec()}))
		wantStatus(t, err, codes.Unimplemented, "not supported: ")
	}
}

func TestHealthKnowsTheService(t *testing.T) {
	f := start(t, twoModels(), Config{}, rpc.Config{})
	got, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "inference.GRPCInferenceService"})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Error(got, err)
	}
}
