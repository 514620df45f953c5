package oipgrpc

import (
	"context"
	"slices"
	"time"

	"sluice/internal/inference/model"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
)

// ModelConfig reports how a model is served, in Triton's terms.
func (s *Service) ModelConfig(_ context.Context, req *pb.ModelConfigRequest) (*pb.ModelConfigResponse, error) {
	v, err := s.models.Lookup(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return &pb.ModelConfigResponse{Config: modelConfig(v)}, nil
}

func modelConfig(v *serve.Version) *pb.ModelConfig {
	c := &pb.ModelConfig{
		Name: v.Name, Platform: platform(v), Backend: backendONNX,
		DefaultModelFilename:   "model.onnx",
		VersionPolicy:          versionPolicy(v.Config.Policy),
		InstanceGroup:          instanceGroup(v),
		ModelTransactionPolicy: &pb.ModelTransactionPolicy{},
	}
	if v.Batches {
		c.MaxBatchSize = int32(v.MaxRows)
	}
	for _, p := range v.Signature.Inputs {
		c.Input = append(c.Input, &pb.ModelInput{Name: p.Name, DataType: configTypes[p.Datatype], Dims: rowShape(v, p.Shape)})
	}
	for _, p := range v.Signature.Outputs {
		c.Output = append(c.Output, &pb.ModelOutput{Name: p.Name, DataType: configTypes[p.Datatype], Dims: rowShape(v, p.Shape)})
	}
	// A client takes its presence for a promise that requests share runs.
	if v.Batches && v.CrossRequest && !v.Config.NoBatching {
		c.SchedulingChoice = &pb.ModelConfig_DynamicBatching{DynamicBatching: dynamicBatching(v.Config.Batching)}
	}
	for key, value := range v.Config.Parameters {
		if c.Parameters == nil {
			c.Parameters = make(map[string]*pb.ModelParameter, len(v.Config.Parameters))
		}
		c.Parameters[key] = &pb.ModelParameter{StringValue: value}
	}
	for _, w := range v.Config.Warmup {
		c.ModelWarmup = append(c.ModelWarmup, warmup(w))
	}
	return c
}

// rowShape leaves out the batch dimension, as configurations do.
func rowShape(v *serve.Version, s tensor.Shape) []int64 {
	if v.Batches && len(s) > 0 {
		s = s[1:]
	}
	return slices.Clone(s)
}

func versionPolicy(p model.VersionPolicy) *pb.ModelVersionPolicy {
	switch {
	case p.All:
		return &pb.ModelVersionPolicy{PolicyChoice: &pb.ModelVersionPolicy_All_{All: &pb.ModelVersionPolicy_All{}}}
	case len(p.Specific) > 0:
		return &pb.ModelVersionPolicy{PolicyChoice: &pb.ModelVersionPolicy_Specific_{
			Specific: &pb.ModelVersionPolicy_Specific{Versions: slices.Clone(p.Specific)},
		}}
	}
	return &pb.ModelVersionPolicy{PolicyChoice: &pb.ModelVersionPolicy_Latest_{
		Latest: &pb.ModelVersionPolicy_Latest{NumVersions: uint32(max(p.Latest, 1))},
	}}
}

func instanceGroup(v *serve.Version) []*pb.ModelInstanceGroup {
	kind := pb.ModelInstanceGroup_KIND_GPU
	if p := v.Config.Execution.Provider; p == "" || p == "cpu" {
		kind = pb.ModelInstanceGroup_KIND_CPU
	}
	return []*pb.ModelInstanceGroup{{Name: v.Name, Kind: kind, Count: int32(max(v.Config.Execution.Executors, 1))}}
}

func dynamicBatching(b *model.Batching) *pb.ModelDynamicBatching {
	if b == nil {
		return &pb.ModelDynamicBatching{}
	}
	d := &pb.ModelDynamicBatching{
		MaxQueueDelayMicroseconds: uint64(b.MaxQueueDelay / time.Microsecond),
		PreserveOrdering:          b.PreserveOrdering,
		PriorityLevels:            uint64(b.PriorityLevels),
		DefaultPriorityLevel:      uint64(b.DefaultPriority),
	}
	for _, n := range b.PreferredSizes {
		d.PreferredBatchSize = append(d.PreferredBatchSize, int32(n))
	}
	policy := &pb.ModelQueuePolicy{
		DefaultTimeoutMicroseconds: uint64(b.DefaultTimeout / time.Microsecond),
		AllowTimeoutOverride:       b.AllowTimeoutOverride,
		MaxQueueSize:               uint32(b.MaxQueueSize),
	}
	if b.TimeoutDelay {
		policy.TimeoutAction = pb.ModelQueuePolicy_DELAY
	}
	if b.DefaultTimeout > 0 || b.AllowTimeoutOverride || b.MaxQueueSize > 0 || b.TimeoutDelay {
		d.DefaultQueuePolicy = policy
	}
	return d
}

func warmup(w model.Warmup) *pb.ModelWarmup {
	inputs := make(map[string]*pb.ModelWarmup_Input, len(w.Inputs))
	for name, in := range w.Inputs {
		p := &pb.ModelWarmup_Input{DataType: configTypes[in.Datatype], Dims: slices.Clone(in.Dims)}
		if in.Random {
			p.InputDataType = &pb.ModelWarmup_Input_RandomData{RandomData: true}
		} else {
			p.InputDataType = &pb.ModelWarmup_Input_ZeroData{ZeroData: true}
		}
		inputs[name] = p
	}
	return &pb.ModelWarmup{Name: w.Name, BatchSize: uint32(w.BatchSize), Count: uint32(w.Count), Inputs: inputs}
}
