package oipgrpc

import (
	"context"
	"strings"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// RepositoryIndex lists every model version, or only those that are ready.
func (s *Service) RepositoryIndex(_ context.Context, req *pb.RepositoryIndexRequest) (*pb.RepositoryIndexResponse, error) {
	if req.GetRepositoryName() != "" {
		return nil, errRepositoryName()
	}
	resp := &pb.RepositoryIndexResponse{}
	for _, e := range s.models.Index() {
		if req.GetReady() && e.State != serve.Ready {
			continue
		}
		resp.Models = append(resp.Models, &pb.RepositoryIndexResponse_ModelIndex{
			Name: e.Name, Version: e.Version, State: string(e.State), Reason: e.Reason,
		})
	}
	return resp, nil
}

// RepositoryModelLoad loads or reloads a model and returns once it serves.
func (s *Service) RepositoryModelLoad(ctx context.Context, req *pb.RepositoryModelLoadRequest) (*pb.RepositoryModelLoadResponse, error) {
	name, err := modelName(req)
	if err != nil {
		return nil, err
	}
	opts, err := loadOptions(req.GetParameters())
	if err != nil {
		return nil, err
	}
	if err := s.models.Load(ctx, name, opts); err != nil {
		return nil, err
	}
	return &pb.RepositoryModelLoadResponse{}, nil
}

// RepositoryModelUnload takes a model out of service. The parameter
// unload_dependents has no effect: models here do not depend on each other.
func (s *Service) RepositoryModelUnload(ctx context.Context, req *pb.RepositoryModelUnloadRequest) (*pb.RepositoryModelUnloadResponse, error) {
	name, err := modelName(req)
	if err != nil {
		return nil, err
	}
	for key := range req.GetParameters() {
		if key != "unload_dependents" {
			return nil, fault.New(fault.Invalid, "unknown unload parameter '%.100s': only 'unload_dependents' is known", key)
		}
	}
	if err := s.models.Unload(ctx, name); err != nil {
		return nil, err
	}
	return &pb.RepositoryModelUnloadResponse{}, nil
}

// modelName returns the model that a request is about. KServe's messages have it
// in the field that is Triton's repository name.
func modelName(req interface {
	GetRepositoryName() string
	GetModelName() string
}) (string, error) {
	switch repository, name := req.GetRepositoryName(), req.GetModelName(); {
	case name == "" && repository == "":
		return "", fault.New(fault.Invalid, "model_name is missing")
	case name == "":
		return repository, nil
	case repository == "":
		return name, nil
	}
	return "", errRepositoryName()
}

func errRepositoryName() error {
	return fault.New(fault.Unsupported, "'repository_name' specification is not supported")
}

func loadOptions(params map[string]*pb.ModelRepositoryParameter) (serve.LoadOptions, error) {
	var opts serve.LoadOptions
	for key, p := range params {
		path, isFile := strings.CutPrefix(key, "file:")
		switch choice := p.GetParameterChoice().(type) {
		case *pb.ModelRepositoryParameter_StringParam:
			if key != "config" {
				return opts, unknownLoadParameter(key)
			}
			opts.ConfigJSON = choice.StringParam
		case *pb.ModelRepositoryParameter_BytesParam:
			if !isFile {
				return opts, unknownLoadParameter(key)
			}
			if opts.Files == nil {
				opts.Files = make(map[string][]byte)
			}
			opts.Files[path] = choice.BytesParam
		default:
			return opts, unknownLoadParameter(key)
		}
	}
	return opts, nil
}

func unknownLoadParameter(key string) error {
	return fault.New(fault.Invalid, "load parameter '%.100s' is not known in this form: expected 'config' as string_param or 'file:<version>/<name>' as bytes_param", key)
}
