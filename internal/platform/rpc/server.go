// Package rpc builds gRPC servers: who may call what, limits, request ids,
// recovery, tracing, observation, health, reflection, error mapping and a bounded
// graceful stop. It knows no service.
//
// A service's methods return fault errors; they are mapped to statuses here,
// once. Known limits: a stream notices that its credential has ended or was revoked
// with its next message, not between messages.
package rpc

import (
	"context"
	"math"
	"net"
	"slices"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress with gzip
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"sluice/internal/platform/fault"
)

// The flow control windows, in bytes. That of a connection opens with each frame
// and is no bound on memory.
const (
	streamWindow     = 64 << 10
	connectionWindow = 16 << 20
)

// cutGrace is how long calls that were cut have to notice it.
const cutGrace = 2 * time.Second

// Server is a gRPC server with its house rules. Serve it once.
type Server struct {
	cfg      Config
	grpc     *grpc.Server
	draining chan struct{} // closed when the server begins to stop
}

// New returns a server of the services that the functions register; it does not
// listen yet.
func New(cfg Config, register ...func(grpc.ServiceRegistrar)) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, draining: make(chan struct{})}
	s.grpc = grpc.NewServer(s.options()...)
	healthpb.RegisterHealthServer(s, &health{server: s})
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	for _, add := range register {
		add(s)
	}
	if err := s.cfg.Gate.check(s.Methods()); err != nil {
		return nil, err
	}
	return s, nil
}

// Methods returns the full names of all methods, in order.
func (s *Server) Methods() []string {
	var all []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			all = append(all, "/"+service+"/"+m.Name)
		}
	}
	slices.Sort(all)
	return all
}

func (s *Server) options() []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.cfg.MaxMessageBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(uint32(s.cfg.MaxConcurrentStreams)),
		// What a client may send of messages that nobody reads yet; it may send a
		// step more of one that is being read.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.MaxHeaderListSize(uint32(s.cfg.MaxHeaderBytes)),
		grpc.ConnectionTimeout(s.cfg.ConnectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.cfg.KeepaliveTime, Timeout: s.cfg.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.cfg.MinPingInterval, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.StreamInterceptor(s.stream),
	}
	if s.cfg.Codec != nil {
		opts = append(opts, grpc.ForceServerCodecV2(s.cfg.Codec))
	}
	return opts
}

// RegisterService adds a service; *Server is a grpc.ServiceRegistrar. Call it
// before Serve. A method that the gate's table does not have is denied to
// everybody; New with the registering function says so at once.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	received := *desc
	received.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		received.Methods[i] = s.unaryMethod(desc.ServiceName, m)
	}
	s.grpc.RegisterService(&received, impl)
}

// Serve accepts connections until ctx ends, then drains: health turns to
// NOT_SERVING, no new call is accepted, streams are told (see Draining), and
// calls in progress have DrainTimeout to finish before they are cut. It owns
// the listener. It returns nil after a complete drain.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(netutil.LimitListener(listener, s.cfg.MaxConnections)) }()
	select {
	case err := <-served:
		close(s.draining)
		s.grpc.Stop()
		return fault.Wrap(fault.Internal, err, "the gRPC server on %s ended", listener.Addr())
	case <-ctx.Done():
	}
	close(s.draining)
	drained := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(drained) }()
	timeout := time.NewTimer(s.cfg.DrainTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
		return nil
	case <-timeout.C:
		go s.grpc.Stop() // cancels the calls, and waits for their handlers
		timeout.Reset(cutGrace)
		select {
		case <-drained:
		case <-timeout.C: // a handler that ignores its context must not hold up the stop
		}
		return fault.New(fault.DeadlineExceeded, "gRPC calls still ran %s after the server began to stop, and were cut", s.cfg.DrainTimeout)
	}
}
