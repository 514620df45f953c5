package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/tensor"
)

// GRPC returns n connections that call ModelInfer of a server on a loopback
// address; key is sent as a bearer token if there is one. Each has an HTTP/2
// connection of its own.
func GRPC(addr string, n int, key string) ([]Conn, error) {
	if err := loopback(addr); err != nil {
		return nil, err
	}
	conns := make([]Conn, n)
	for i := range conns {
		client, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(maxChunked)))
		if err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		conns[i] = &grpcConn{client: client, key: key}
	}
	return conns, nil
}

type grpcConn struct {
	client *grpc.ClientConn
	key    string

	mu     sync.Mutex
	limit  time.Time
	cancel context.CancelFunc // of the request in progress
}

// Do calls ModelInfer with a message that is encoded already.
func (c *grpcConn) Do(r *Request) (Answer, error) {
	c.mu.Lock()
	ctx, cancel := context.WithDeadline(context.Background(), c.limit)
	c.cancel = cancel
	c.mu.Unlock()
	defer cancel()
	if c.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
	}
	var body []byte
	err := c.client.Invoke(ctx, oippb.GRPCInferenceService_ModelInfer_FullMethodName, r.Wire, &body)
	switch code := status.Code(err); code {
	case codes.OK:
		return Answer{Status: 200, HeaderLength: -1, Body: body}, nil
	case codes.ResourceExhausted:
		return Answer{Status: 429, HeaderLength: -1, Body: []byte(err.Error())}, nil
	case codes.Unavailable:
		if status.Convert(err).Message() != "" && !isTransport(err) {
			return Answer{Status: 503, HeaderLength: -1, Body: []byte(err.Error())}, nil
		}
	}
	return Answer{}, err
}

// isTransport reports whether it was the connection that failed: then the
// client, not the server, has said UNAVAILABLE.
func isTransport(err error) bool {
	for _, text := range []string{"connection error", "error reading from server", "transport is closing", "closing transport", "connection closed"} {
		if strings.Contains(status.Convert(err).Message(), text) {
			return true
		}
	}
	return false
}

// SetLimit sets the deadline of the requests to come, and ends the one that is in
// progress where it has passed.
func (c *grpcConn) SetLimit(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = t
	if c.cancel != nil && !t.After(time.Now()) {
		c.cancel()
	}
	return nil
}

// Close closes the connection for good.
func (c *grpcConn) Close() { _ = c.client.Close() }

// bytesCodec takes messages that are encoded, and leaves them so.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("load: a message must be bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("load: a message must be bytes")
	}
	*b = data.Materialize()
	return nil
}

// InferMessage returns the ModelInferRequest for a model in its wire form, with
// the tensors as raw contents.
func InferMessage(model string, inputs []tensor.Tensor) ([]byte, error) {
	m := &oippb.ModelInferRequest{ModelName: model}
	for _, in := range inputs {
		m.Inputs = append(m.Inputs, &oippb.ModelInferRequest_InferInputTensor{Name: in.Name, Datatype: in.Datatype.String(), Shape: in.Shape})
		m.RawInputContents = append(m.RawInputContents, in.Data)
	}
	return proto.Marshal(m)
}

// MessageOutputs decodes the outputs of a ModelInferResponse with raw contents.
func MessageOutputs(a Answer) ([]tensor.Tensor, error) {
	var m oippb.ModelInferResponse
	if err := proto.Unmarshal(a.Body, &m); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if len(m.GetRawOutputContents()) != len(m.GetOutputs()) {
		return nil, fmt.Errorf("answer: %d raw contents for %d outputs", len(m.GetRawOutputContents()), len(m.GetOutputs()))
	}
	var outputs []tensor.Tensor
	for i, o := range m.GetOutputs() {
		d, err := tensor.Parse(o.GetDatatype())
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", o.GetName(), err)
		}
		t := tensor.Tensor{Name: o.GetName(), Datatype: d, Shape: o.GetShape(), Data: m.GetRawOutputContents()[i]}
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.GetName(), err)
		}
		outputs = append(outputs, t)
	}
	return outputs, nil
}
