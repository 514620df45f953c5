// Package feedgrpc serves feeds over gRPC, with the cursors, filters and policies
// that package feedhttp has.
//
// Flow control is gRPC's: what a client has not taken waits in its stream's
// window and then in the transport, at most 64 KiB and a message; after that the
// subscription is behind, and its policy counts. A client that takes nothing for
// the time of a write is ended.
//
// Known limits: what the transport holds for a stream that was ended stays until
// its client reads or resets it, or its connection ends; until then the stream
// counts among those that the connection may have open.
package feedgrpc

import (
	"cmp"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
)

// TrailerCursor is the trailer that has the cursor to come back with.
const TrailerCursor = "last-cursor"

// Config holds what a Service may be given; the zero value has defaults.
type Config struct {
	Ping         time.Duration // between signs of life on a quiet stream; default 15s
	WriteTimeout time.Duration // for each message to be taken by the transport; default 10s
	// Recheck is how often it is asked whether a key was revoked meanwhile.
	Recheck time.Duration // default 2s
}

// Service is sluice.feed.v1.Feeds.
type Service struct {
	feedpb.UnimplementedFeedsServer
	hub *feed.Hub
	cfg Config
}

// New returns the service of a hub. Callers are told by access.From.
func New(hub *feed.Hub, cfg Config) *Service {
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 10*time.Second)
	return &Service{hub: hub, cfg: cfg}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { feedpb.RegisterFeedsServer(r, s) }

// Subscribe implements feedpb.FeedsServer.
func (s *Service) Subscribe(in *feedpb.SubscribeRequest, stream grpc.ServerStreamingServer[feedpb.SubscribeResponse]) error {
	ctx := stream.Context()
	p, ok := access.From(ctx)
	if !ok {
		return access.ErrNoCredential
	}
	r, err := s.request(in, p)
	if err != nil {
		return err
	}
	sub, err := s.hub.Subscribe(ctx, r)
	if err != nil {
		return ended(err)
	}
	// Nothing compresses a stream of small messages, whatever the client sends.
	if err := grpc.SetSendCompressor(ctx, "identity"); err != nil {
		sub.Close()
		return fault.Wrap(fault.Internal, err, "the stream's compression cannot be set")
	}
	out := newSink(stream, sub.From(), s.cfg.WriteTimeout)
	err = s.serve(ctx, sub, out, p)
	stream.SetTrailer(metadata.Pairs(TrailerCursor, out.last()))
	return ended(err)
}

// ended is the status of a stream's end: OK where nothing will follow, and that
// of the transport where it takes nothing any more.
func ended(err error) error {
	if errors.Is(err, feed.ErrEnded) {
		return nil
	}
	if st, ok := errors.AsType[transportError](err); ok {
		return st
	}
	return err
}

type transportError interface {
	error
	GRPCStatus() *status.Status
}

var errStalled error = fault.New(fault.Exhausted, "the client has taken nothing for too long: connect again with the last cursor, and read while the stream is open").
	WithCode("consumer_stalled").WithRetryAfter(time.Second)

// serve delivers in a goroutine of its own: a message that the client's flow
// control holds up is given up only when its call returns.
func (s *Service) serve(ctx context.Context, sub *feed.Subscription, out *sink, p *access.Principal) error {
	how := feed.Serving{Ping: s.cfg.Ping, Recheck: s.cfg.Recheck,
		Valid: func(ctx context.Context) error { return p.Holds(ctx, time.Now()) }}
	done := make(chan error, 1)
	go func() {
		defer sub.Close()
		defer out.timer.Stop()
		done <- fault.Guard(func() error {
			if err := out.open(sub); err != nil {
				return err
			}
			return sub.Serve(ctx, out, how)
		})
	}()
	select {
	case err := <-done:
		return err
	case <-out.stalled:
		return errStalled
	}
}

// request is what the client asks for; the tenant is its credential's.
func (s *Service) request(in *feedpb.SubscribeRequest, p *access.Principal) (feed.Request, error) {
	start, err := feed.ParseStart(in.GetAfter())
	if err != nil {
		return feed.Request{}, err
	}
	policy, err := feed.ParsePolicy(in.GetSlow())
	if err != nil {
		return feed.Request{}, err
	}
	f := feed.Filter{Tenant: p.Tenant, Kind: in.GetKind(), Subject: in.GetId(), Types: in.GetTypes(), Labels: in.GetLabels()}
	return feed.Request{Filter: f, Start: start, Strict: in.GetStrict(), Policy: policy, Expires: p.Expires, Transport: "grpc"}, nil
}
