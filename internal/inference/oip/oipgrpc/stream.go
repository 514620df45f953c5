package oipgrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/rpc"
)

// errStopping ends a stream when the server stops.
var errStopping error = fault.New(fault.Unavailable, "the server is stopping: send the unanswered requests again on a new stream")

// conversation is one call of ModelStreamInfer.
type conversation struct {
	service *Service
	stream  grpc.ServerStream
	line    *stream.Line
	// statusErrors has the first failure end the stream with its status.
	statusErrors bool
	owns         map[string]*stream.Own // by model: the stream's own sequences
}

// converse serves ModelStreamInfer. Up to StreamDepth requests are served at
// once, so that they can share runs, and answered in the order they came; steps
// of one sequence run one after another, and those of a generative model are
// answers of their own. Where the client does not read its answers, it is not
// read from either.
//
// The stream ends when the client has closed its side and has its last answer,
// when the client goes, or when the server stops: then after the answers to all
// requests that were taken.
func (s *Service) converse(call grpc.ServerStream) error {
	defer s.streams.Opened("grpc")()
	ctx, cancel := context.WithCancel(call.Context())
	defer cancel()
	asked := metadata.ValueFromIncomingContext(ctx, "triton_grpc_error")
	c := &conversation{service: s, stream: call, line: stream.NewLine(ctx, s.cfg.StreamDepth), owns: map[string]*stream.Own{},
		statusErrors: len(asked) > 0 && asked[0] == "true"}
	err := c.serve(ctx)
	if err != nil && !errors.Is(err, errStopping) {
		c.line.Stop(err)
	}
	if ended := c.line.Wait(); ended != nil {
		err = ended
	}
	for _, own := range c.owns {
		s.streams.Release(own)
	}
	return err
}

// serve takes requests until the stream ends. Its error is why, unless the
// client closed its side in order.
func (c *conversation) serve(ctx context.Context) error {
	received, ended := c.service.receive(ctx, c.stream)
	draining := rpc.Draining(ctx)
	for {
		select {
		case <-draining:
			return errStopping
		default:
		}
		select {
		case call, ok := <-received:
			if !ok {
				return <-ended
			}
			if err := c.line.Add(&exchange{c, call}, c.order(call)); err != nil {
				return err
			}
		case <-c.line.Failed():
			return nil // Wait tells why
		case <-draining:
			return errStopping
		}
	}
}

// order opens the request and finds what it has to wait for: the steps before it,
// if it is one of a sequence.
func (c *conversation) order(call *call) stream.Order {
	if call.err = call.open(); call.err != nil {
		return stream.Order{}
	}
	var q serve.Sequence
	for i := range call.msg.params {
		if p := &call.msg.params[i]; isSequence(p.key) {
			if p.sequence(&q) != nil {
				return stream.Order{} // Decode tells
			}
		}
	}
	name, version := call.Target()
	v, err := c.service.models.Lookup(name, version)
	if err != nil || !v.Stateful() || v.Generative() {
		return stream.Order{}
	}
	if q.ID == "" {
		call.own = c.own(v.Name)
	}
	return stream.Order{Sequence: v.Name + "/" + q.ID, Anew: q.Start || q.Resume}
}

func (c *conversation) own(model string) *stream.Own {
	own := c.owns[model]
	if own == nil {
		own = c.service.streams.Own()
		c.owns[model] = own
	}
	return own
}

// exchange is a request of a stream: the stream.Item around a call.
type exchange struct {
	conversation *conversation
	call         *call
}

// Run implements stream.Item.
func (e *exchange) Run(ctx context.Context) error {
	c := e.call
	if c.err != nil {
		return c.err
	}
	name, version := c.Target()
	if v, err := e.conversation.service.models.Lookup(name, version); err == nil && v.Generative() {
		c.send = e.conversation.stream.SendMsg // when it is its turn
		return nil
	}
	return c.identify(e.conversation.service.streams.Step(ctx, c, c.own))
}

// Send implements stream.Item. A failure is an answer like any other, unless the
// client asked for it as the status that ends the stream.
func (e *exchange) Send(ctx context.Context, failed error) error {
	c, to := e.call, e.conversation.stream
	if failed == nil && c.send != nil {
		failed = fault.Guard(func() error { return c.identify(e.conversation.service.streams.Generate(ctx, c, nil)) })
		if failed == nil || c.sendFailed != nil {
			return c.sendFailed
		}
	}
	if failed == nil {
		return to.SendMsg(c.answer)
	}
	if e.conversation.statusErrors {
		return failed
	}
	return to.SendMsg(encodeError(rpc.Status(failed).Message(), c))
}

// Done implements stream.Item.
func (e *exchange) Done() { e.call.free() }

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
