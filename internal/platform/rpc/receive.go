package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// grpc-go takes a whole message, and all that it inflates to, into memory before
// anybody can object: a few kilobytes of gzip on each of a few calls are
// gigabytes. So messages are received here, with the same framing and codec, and
// every piece is counted before there is room made for it.

// Holder is a request message that keeps the received bytes. They count in its
// account, which it releases; those of all other messages count until their
// call ends, or in a stream until they are decoded.
type Holder interface{ Account() *budget.Account }

// wire is what grpc-go's transport stream offers beyond its public interface.
// Its methods are exported, its type is not.
type wire interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	RecvCompress() string
}

// step is the most bytes that are taken on a client's word, and uncounted by the
// transport.
const step = 1 << 20

var buffers = mem.DefaultBufferPool()

// receiver reads the messages of one call.
type receiver struct {
	server *Server
	wire   wire
	header [5]byte // compressed or not, and the length
}

func (s *Server) receiver(ctx context.Context) (*receiver, error) {
	w, ok := grpc.ServerTransportStreamFromContext(ctx).(wire)
	if !ok {
		return nil, status.Error(codes.Internal, "the transport cannot be read")
	}
	return &receiver{server: s, wire: w}, nil
}

// receiveOnly receives the one message of a unary call.
func (s *Server) receiveOnly(ctx context.Context, v any, account *budget.Account) error {
	r, err := s.receiver(ctx)
	if err != nil {
		return err
	}
	return r.only(v, account)
}

// only receives the one message of a call.
func (r *receiver) only(v any, account *budget.Account) error {
	switch err := r.next(v, account); {
	case errors.Is(err, io.EOF):
		return status.Error(codes.Internal, "cardinality violation: the call has no request message")
	case err != nil:
		return err
	}
	switch err := r.wire.ReadMessageHeader(r.header[:]); {
	case err == nil:
		return status.Error(codes.Internal, "cardinality violation: the call has more than one request message")
	case !errors.Is(err, io.EOF):
		return wireError(err)
	}
	return nil
}

// next receives the next message, or returns io.EOF. The account is that of
// messages that are no Holder.
func (r *receiver) next(v any, account *budget.Account) error {
	if h, ok := v.(Holder); ok {
		account = h.Account()
	}
	data, err := r.message(account)
	if err != nil {
		return err
	}
	defer data.Free()
	if err := r.server.codec().Unmarshal(data, v); err != nil {
		return status.Errorf(codes.Internal, "the message cannot be decoded: %s", err)
	}
	return nil
}

// message reads and inflates a message, into one buffer.
func (r *receiver) message(account *budget.Account) (mem.BufferSlice, error) {
	if err := r.wire.ReadMessageHeader(r.header[:]); err != nil {
		return nil, wireError(err)
	}
	format, size := r.header[0], int64(binary.BigEndian.Uint32(r.header[1:]))
	if size > int64(r.server.cfg.MaxMessageBytes) {
		return nil, r.server.tooLarge()
	}
	if format > 1 {
		return nil, status.Errorf(codes.Internal, "unknown message format %d", format)
	}
	data, err := r.read(size, account)
	if err == nil && format == 1 {
		data, err = r.inflate(data, size, account)
	}
	if err == nil {
		data, err = join(data, account)
	}
	return data, err
}

// read reads size bytes, of which each step counts before the client may send it.
func (r *receiver) read(size int64, account *budget.Account) (mem.BufferSlice, error) {
	var all mem.BufferSlice
	for first := true; first || size > 0; first = false {
		n := min(size, step)
		if err := account.Acquire(n); err != nil {
			all.Free()
			return nil, err
		}
		data, err := r.wire.Read(int(n))
		if err != nil {
			all.Free()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, wireError(err)
		}
		if size -= n; first && size == 0 {
			return data, nil
		}
		all = append(all, data...)
	}
	return all, nil
}

// inflate decompresses data, which has size bytes, and frees it.
func (r *receiver) inflate(data mem.BufferSlice, size int64, account *budget.Account) (mem.BufferSlice, error) {
	source := data.Reader()
	data.Free()
	defer func() {
		_ = source.Close() // frees what is left; never fails
		account.Return(size)
	}()
	coding := encoding.GetCompressor(r.wire.RecvCompress())
	if coding == nil {
		return nil, status.Errorf(codes.Internal, "the message is compressed, but grpc-encoding is %q", r.wire.RecvCompress())
	}
	plain, err := coding.Decompress(source)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the message is not %s data as its grpc-encoding says: %s", coding.Name(), err)
	}
	if c, ok := plain.(io.Closer); ok {
		defer c.Close()
	}
	var all mem.BufferSlice
	total, limit := 0, r.server.cfg.MaxMessageBytes
	for room := 4 << 10; ; room = min(2*room, step) {
		if err = account.Acquire(int64(room)); err != nil {
			break
		}
		b := buffers.Get(room)
		var n int
		n, err = fill(plain, *b)
		*b = (*b)[:n]
		all = append(all, mem.NewBuffer(b, buffers))
		account.Return(int64(room - n))
		if total += n; total > limit {
			err = r.server.tooLarge()
		} else if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			err = status.Errorf(codes.InvalidArgument, "the message is not %s data as its grpc-encoding says: %s", coding.Name(), err)
		}
		if err != nil {
			break
		}
	}
	all.Free()
	return nil, err
}

// fill is io.ReadFull, but the end is io.EOF wherever it comes, so that a
// decompressor's own io.ErrUnexpectedEOF is still seen for what it is.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

// join copies data that came in pieces into one buffer, and frees each piece on
// the way.
func join(data mem.BufferSlice, account *budget.Account) (mem.BufferSlice, error) {
	if len(data) == 1 {
		return data, nil
	}
	size := data.Len()
	if err := account.Acquire(int64(size)); err != nil {
		data.Free()
		return nil, err
	}
	defer account.Return(int64(size))
	pieces := data.Reader()
	data.Free()
	b := buffers.Get(size)
	_, err := fill(pieces, *b) // which frees each piece; a mem.Reader has all its bytes
	return mem.BufferSlice{mem.NewBuffer(b, buffers)}, err
}

func (s *Server) codec() encoding.CodecV2 {
	if s.cfg.Codec != nil {
		return s.cfg.Codec
	}
	return encoding.GetCodecV2(proto.Name)
}

func (s *Server) tooLarge() error {
	return status.Errorf(codes.ResourceExhausted, "the message is larger than max %d bytes (%s)", s.cfg.MaxMessageBytes, s.cfg.MaxMessageKey)
}

// wireError gives what the transport reports a status. The end of the messages
// stays io.EOF.
func wireError(err error) error {
	if _, ok := status.FromError(err); ok || errors.Is(err, io.EOF) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return status.Error(codes.Internal, "the message ended early")
	}
	return fault.Wrap(fault.Unavailable, err, "the connection ended while a message was received")
}
