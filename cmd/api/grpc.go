package main

import (
	"context"
	"net"
	"time"

	"sluice/cmd/internal/models"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/oip/oipgrpc"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/rpc"
)

// grpcServer runs the gRPC server as a lifecycle component: rpc.Server drains
// when its context ends, the component when it is told to.
type grpcServer struct {
	server   *rpc.Server
	address  string
	listener net.Listener
}

// newGRPC builds the public gRPC server.
func newGRPC(a *app) (*grpcServer, error) {
	c := a.cfg.GRPC
	measure, err := rpc.Metrics(a.registry)
	if err != nil {
		return nil, err
	}
	memory, err := models.Memory(a.registry, "grpc", c.MaxHeld)
	if err != nil {
		return nil, err
	}
	cfg := rpc.Config{
		MaxMessageBytes: int(c.MaxMessage), MaxMessageKey: "grpc.max_message", Memory: memory, MaxConnections: c.MaxConnections, MaxConcurrentStreams: c.MaxStreams,
		KeepaliveTime: c.Keepalive, DrainTimeout: max(a.cfg.Shutdown.Grace, time.Millisecond),
		Gate: a.gate.methods(), Codec: oipgrpc.Codec(), Ready: a.models.Public.Ready, Reflection: true,
		Observers: []rpc.Observer{rpc.AccessLog(a.log), measure},
	}
	if a.tracing.Enabled() {
		cfg.Tracer = a.tracing.Tracer("sluice/rpc")
	}
	service, err := oipgrpc.New(a.models.Public, oipgrpc.Config{
		Name: "sluice", Version: a.build.Version, Extensions: oip.Extensions(), Memory: memory,
	})
	if err != nil {
		return nil, err
	}
	server, err := rpc.New(cfg, service.Register, feedService(a).Register)
	if err != nil {
		return nil, err
	}
	return &grpcServer{server: server, address: c.Addr}, nil
}

func (g *grpcServer) addr() string { return g.listener.Addr().String() }

func (g *grpcServer) component() lifecycle.Component {
	serving, drain := context.WithCancel(context.Background())
	served := make(chan struct{}) // Serve has returned
	return lifecycle.Component{
		Name: "grpc",
		Start: func(ctx context.Context) (err error) {
			var lc net.ListenConfig
			if g.listener, err = lc.Listen(ctx, "tcp", g.address); err != nil {
				return fault.Wrap(fault.Unavailable, err, "the grpc listener cannot be opened on %s", g.address)
			}
			return nil
		},
		Run: func(ctx context.Context) error {
			defer close(served)
			defer context.AfterFunc(ctx, drain)()
			return g.server.Serve(serving, g.listener)
		},
		Drain: func(ctx context.Context) error {
			drain()
			select {
			case <-served:
				return nil // Serve's error is Run's to return
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
}
