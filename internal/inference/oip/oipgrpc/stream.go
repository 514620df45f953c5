package oipgrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/rpc"
)

// stream serves ModelStreamInfer. Up to StreamDepth requests are served at
// once, so that they can share runs, and answered in the order they came. Where
// the client does not read its answers, it is not read from either.
//
// The stream ends when the client has closed its side and has its last answer,
// when the client goes, or when the server stops: then after the answers to all
// requests that were taken.
func (s *Service) stream(stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	inFlight := make([]*call, 0, s.cfg.StreamDepth) // oldest first
	defer func() {
		cancel()
		for _, c := range inFlight {
			<-c.done
			c.free()
		}
	}()
	received, ended := s.receive(ctx, stream)
	errorsEnd := metadata.ValueFromIncomingContext(ctx, "triton_grpc_error")
	statusErrors := len(errorsEnd) > 0 && errorsEnd[0] == "true"
	draining := rpc.Draining(ctx)
	var end error
	for received != nil || len(inFlight) > 0 {
		next, oldest := received, (chan struct{})(nil)
		if len(inFlight) == s.cfg.StreamDepth {
			next = nil
		}
		if len(inFlight) > 0 {
			oldest = inFlight[0].done
		}
		select {
		case c, ok := <-next:
			if ok {
				inFlight = append(inFlight, c)
				go s.serveOne(ctx, c)
			} else if end = <-ended; end != nil {
				return end
			} else {
				received = nil
			}
		case <-oldest:
			c := inFlight[0]
			inFlight = inFlight[:copy(inFlight, inFlight[1:])]
			err := respond(stream, c, statusErrors)
			c.free()
			if err != nil {
				return err
			}
		case <-draining:
			received, draining = nil, nil
			end = fault.New(fault.Unavailable, "the server is stopping: send the unanswered requests again on a new stream")
		}
	}
	return end
}

// receive reads requests in a goroutine that ends with the stream. The second
// channel says why once the first one is closed: nil where the client closed its
// side in order.
func (s *Service) receive(ctx context.Context, stream grpc.ServerStream) (chan *call, <-chan error) {
	received, ended := make(chan *call), make(chan error, 1)
	go func() {
		defer close(received)
		for {
			c := newCall(s.cfg.Memory)
			c.final = true
			if err := stream.RecvMsg(c); err != nil {
				c.free()
				if errors.Is(err, io.EOF) {
					err = nil
				}
				ended <- err
				return
			}
			select {
			case received <- c:
			case <-ctx.Done():
				c.free()
				ended <- ctx.Err()
				return
			}
		}
	}()
	return received, ended
}

func (s *Service) serveOne(ctx context.Context, c *call) {
	c.answer, c.err = s.guardedInfer(ctx, c)
	c.done <- struct{}{}
}

// respond sends the outcome of a request. A failure is an answer like any other,
// unless the client asked for it as the status that ends the stream.
func respond(stream grpc.ServerStream, c *call, statusErrors bool) error {
	if c.err == nil {
		return stream.SendMsg(c.answer)
	}
	if statusErrors {
		return c.err
	}
	return stream.SendMsg(encodeError(rpc.Status(c.err).Message(), c))
}
