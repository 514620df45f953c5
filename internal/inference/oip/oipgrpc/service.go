// Package oipgrpc serves the Open Inference Protocol over gRPC, as Triton's
// clients speak it.
//
// ModelInfer and ModelStreamInfer read requests in place and write answers
// straight into transport buffers: they need the server to use Codec. The other
// methods use the generated messages.
package oipgrpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// Config holds what the service says of its server, and its limits.
type Config struct {
	Name       string   // the server's name in its metadata
	Version    string   // the server's version in its metadata
	Extensions []string // the protocol's extensions that the server offers
	// Memory bounds what all requests and answers hold together; it should be
	// the rpc server's. More are refused with UNAVAILABLE. Default 2 GiB.
	Memory *budget.Budget
	// StreamDepth is how many requests of one stream are served at once; the
	// stream is not read further meanwhile. Default 64.
	StreamDepth int
}

// Service implements inference.GRPCInferenceService on the models of a server.
type Service struct {
	pb.UnimplementedGRPCInferenceServiceServer
	models  serve.Models
	streams *stream.Models // the same
	cfg     Config
}

// New returns the service. Models that are not a *stream.Models are put behind one
// with default limits.
func New(models serve.Models, cfg Config) (*Service, error) {
	if cfg.Memory == nil {
		cfg.Memory = budget.New(2<<30, "the server's memory limit")
	}
	if cfg.StreamDepth == 0 {
		cfg.StreamDepth = 64
	}
	if cfg.StreamDepth < 0 {
		return nil, fault.New(fault.Invalid, "oipgrpc: StreamDepth is %d; expected a positive number", cfg.StreamDepth)
	}
	cfg.Extensions = slices.Clone(cfg.Extensions)
	streams, err := stream.Of(models)
	if err != nil {
		return nil, err
	}
	return &Service{models: streams, streams: streams, cfg: cfg}, nil
}

// Register adds the service to a server that uses Codec.
func (s *Service) Register(r grpc.ServiceRegistrar) { r.RegisterService(&desc, s) }

// desc is the generated description with the two hot methods replaced by those
// that know call and answer.
var desc = func() grpc.ServiceDesc {
	d := pb.GRPCInferenceService_ServiceDesc
	d.Methods, d.Streams = slices.Clone(d.Methods), slices.Clone(d.Streams)
	for i := range d.Methods {
		if d.Methods[i].MethodName == "ModelInfer" {
			d.Methods[i].Handler = handleInfer
		}
	}
	for i := range d.Streams {
		if d.Streams[i].StreamName == "ModelStreamInfer" {
			d.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error { return srv.(*Service).converse(stream) }
		}
	}
	return d
}()

// handleInfer is the grpc.MethodHandler of ModelInfer.
//
//nolint:revive // the order of a grpc.MethodHandler's parameters is gRPC's
func handleInfer(srv any, ctx context.Context, receive func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	s := srv.(*Service)
	c := newCall(s.cfg.Memory)
	defer c.free()
	if err := receive(c); err != nil {
		return nil, err
	}
	if intercept == nil {
		return s.infer(ctx, c)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: pb.GRPCInferenceService_ModelInfer_FullMethodName}
	return intercept(ctx, c, info, func(ctx context.Context, _ any) (any, error) { return s.infer(ctx, c) })
}

// infer serves a received request. Its answer is the caller's, its call is not.
func (s *Service) infer(ctx context.Context, c *call) (*answer, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := s.models.Predict(ctx, c); err != nil {
		return nil, c.identify(err)
	}
	return c.answer, nil
}
