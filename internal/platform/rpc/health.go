package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"sluice/internal/platform/fault"
)

// healthWatchInterval is how often a watched state is looked at again:
// readiness is a question to the application, which does not announce changes.
const healthWatchInterval = time.Second

// health is grpc.health.v1 for the server as a whole: each of its services is
// as healthy as the server, the empty name included.
type health struct {
	healthpb.UnimplementedHealthServer
	server *Server
}

func (h *health) state() healthpb.HealthCheckResponse_ServingStatus {
	select {
	case <-h.server.draining:
		return healthpb.HealthCheckResponse_NOT_SERVING
	default:
	}
	if h.server.cfg.Ready() {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

func (h *health) knows(service string) bool {
	_, ok := h.server.grpc.GetServiceInfo()[service]
	return ok || service == ""
}

func (h *health) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if !h.knows(req.GetService()) {
		return nil, fault.New(fault.NotFound, "unknown service %.100q", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: h.state()}, nil
}

func (h *health) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	state := &healthpb.HealthCheckResponse{Status: h.state()}
	all := map[string]*healthpb.HealthCheckResponse{"": state}
	for name := range h.server.grpc.GetServiceInfo() {
		all[name] = state
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch sends the state at once and then each change, until the client goes or
// the server stops.
func (h *health) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	known := h.knows(req.GetService())
	tick := time.NewTicker(healthWatchInterval)
	defer tick.Stop()
	for last := healthpb.HealthCheckResponse_UNKNOWN; ; {
		state := healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		if known {
			state = h.state()
		}
		if state != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: state}); err != nil {
				return err
			}
			last = state
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-h.server.draining:
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}); err != nil {
				return err
			}
			return fault.New(fault.Unavailable, "the server is stopping")
		}
	}
}
