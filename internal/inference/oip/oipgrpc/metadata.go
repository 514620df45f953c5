package oipgrpc

import (
	"context"

	"sluice/internal/inference/model"
	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// platformONNX is Triton's name of what every model here is.
const (
	platformONNX = "onnxruntime_onnx"
	backendONNX  = "onnxruntime"
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
		Name: v.Name, Platform: platform(v),
		Inputs: tensorMetadata(v.Signature.Inputs), Outputs: tensorMetadata(v.Signature.Outputs),
	}
	for _, v := range versions {
		resp.Versions = append(resp.Versions, v.Text)
	}
	return resp, nil
}

func platform(v *serve.Version) string {
	if v.Config.Platform != "" {
		return v.Config.Platform
	}
	return platformONNX
}

func tensorMetadata(ports []model.Port) []*pb.ModelMetadataResponse_TensorMetadata {
	list := make([]*pb.ModelMetadataResponse_TensorMetadata, len(ports))
	for i, p := range ports {
		list[i] = &pb.ModelMetadataResponse_TensorMetadata{Name: p.Name, Datatype: p.Datatype.String(), Shape: p.Shape}
	}
	return list
}

// configTypes are the datatypes as the model configuration spells them.
var configTypes = [...]pb.DataType{
	tensor.Invalid: pb.DataType_TYPE_INVALID, tensor.Bool: pb.DataType_TYPE_BOOL,
	tensor.Uint8: pb.DataType_TYPE_UINT8, tensor.Uint16: pb.DataType_TYPE_UINT16,
	tensor.Uint32: pb.DataType_TYPE_UINT32, tensor.Uint64: pb.DataType_TYPE_UINT64,
	tensor.Int8: pb.DataType_TYPE_INT8, tensor.Int16: pb.DataType_TYPE_INT16,
	tensor.Int32: pb.DataType_TYPE_INT32, tensor.Int64: pb.DataType_TYPE_INT64,
	tensor.FP16: pb.DataType_TYPE_FP16, tensor.BF16: pb.DataType_TYPE_BF16,
	tensor.FP32: pb.DataType_TYPE_FP32, tensor.FP64: pb.DataType_TYPE_FP64,
	tensor.Bytes: pb.DataType_TYPE_STRING,
}
