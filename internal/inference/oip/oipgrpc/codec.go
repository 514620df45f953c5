package oipgrpc

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec is the protobuf codec for a server with this service. Inference
// requests and answers pass through it without being turned into generated
// messages; all other messages do as ever.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

type codec struct{ encoding.CodecV2 }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if call, ok := v.(*call); ok {
		// One buffer is kept as it is; several are joined, the only copy that a
		// large request makes.
		call.buf = data.MaterializeToBuffer(buffers)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if a, ok := v.(*answer); ok {
		return a.data, nil
	}
	return c.CodecV2.Marshal(v)
}
