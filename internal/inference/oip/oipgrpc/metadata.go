package oipgrpc

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/encoding/protojson"

	"sluice/internal/inference/model"
	"sluice/internal/inference/oip"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// ServerLive answers that the process does.
func (s *Service) ServerLive(context.Context, *pb.ServerLiveRequest) (*pb.ServerLiveResponse, error) {
	return &pb.ServerLiveResponse{Live: true}, nil
}

// ServerReady says whether every configured model answers.
func (s *Service) ServerReady(context.Context, *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	return &pb.ServerReadyResponse{Ready: s.models.Ready()}, nil
}

// ModelReady says whether the model answers; one that does not exist does not.
func (s *Service) ModelReady(_ context.Context, req *pb.ModelReadyRequest) (*pb.ModelReadyResponse, error) {
	_, err := s.models.Lookup(req.GetName(), req.GetVersion())
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unavailable) {
		return nil, err
	}
	return &pb.ModelReadyResponse{Ready: err == nil}, nil
}

// ServerMetadata names the server and the extensions it offers.
func (s *Service) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{Name: s.cfg.Name, Version: s.cfg.Version, Extensions: s.cfg.Extensions}, nil
}

// ModelMetadata describes a model's inputs and outputs. Versions holds all that
// are live, or the one that was asked for.
func (s *Service) ModelMetadata(_ context.Context, req *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	v, err := s.models.Lookup(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	versions := []*serve.Version{v}
	if req.GetVersion() == "" {
		if versions, err = s.models.Versions(req.GetName()); err != nil {
			return nil, err
		}
	}
	resp := &pb.ModelMetadataResponse{
		Name: v.Name, Platform: cmp.Or(v.Config.Platform, model.Platform),
		Inputs: tensorMetadata(v.Signature.Inputs), Outputs: tensorMetadata(v.Signature.Outputs),
		Properties: oip.Properties(v),
	}
	for _, v := range versions {
		resp.Versions = append(resp.Versions, v.Text)
	}
	return resp, nil
}

// ModelConfig reports how a model is served, in Triton's terms. It is the REST
// edge's answer in another encoding.
func (s *Service) ModelConfig(_ context.Context, req *pb.ModelConfigRequest) (*pb.ModelConfigResponse, error) {
	v, err := s.models.Lookup(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	config := v.Config
	// Its dynamic_batching tells clients that requests share runs.
	config.NoBatching = config.NoBatching || !v.CrossRequest
	resp := &pb.ModelConfigResponse{Config: &pb.ModelConfig{}}
	known := protojson.UnmarshalOptions{DiscardUnknown: true}
	if err := known.Unmarshal(config.TritonJSON(v.Signature), resp.GetConfig()); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the configuration of model '%s' does not fit its message", v.Name)
	}
	return resp, nil
}

func tensorMetadata(ports []model.Port) []*pb.ModelMetadataResponse_TensorMetadata {
	list := make([]*pb.ModelMetadataResponse_TensorMetadata, len(ports))
	for i, p := range ports {
		list[i] = &pb.ModelMetadataResponse_TensorMetadata{Name: p.Name, Datatype: p.Datatype.String(), Shape: p.Shape}
	}
	return list
}
