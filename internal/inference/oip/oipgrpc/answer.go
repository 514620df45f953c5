package oipgrpc

import (
	"math"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// answer is an encoded ModelInferResponse or ModelStreamInferResponse, ready to
// be sent once.
type answer struct{ data mem.BufferSlice }

var buffers = mem.DefaultBufferPool()

// Field numbers of the response messages.
const (
	respModel      protowire.Number = 1
	respVersion    protowire.Number = 2
	respID         protowire.Number = 3
	respOutputs    protowire.Number = 5
	respRaw        protowire.Number = 6
	tensorName     protowire.Number = 1
	tensorDatatype protowire.Number = 2
	tensorShape    protowire.Number = 3
	streamError    protowire.Number = 1
	streamResponse protowire.Number = 2
)

// finals are the encoded field parameters["triton_final_response"] of an answer
// of a stream, by whether more follow: field 4 with an entry of a key (1) and an
// InferParameter (2) with its bool_param (1).
var finals = map[bool][]byte{false: finalParam(1), true: finalParam(0)}

// none is for answers outside of streams.
var none []byte

func finalParam(value uint64) []byte {
	const key = "triton_final_response"
	param := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), value)
	entry := appendText(nil, 1, key)
	entry = appendText(entry, 2, string(param))
	return appendText(nil, 4, string(entry))
}

// encode writes the response straight into the buffer that goes to the
// transport: the one copy that the output data makes. For a stream, where final
// is one of finals, it is wrapped in a ModelStreamInferResponse. It counts in the
// account while it is written, and a large one until the transport has sent it.
func encode(account *budget.Account, v *serve.Version, id []byte, outputs []tensor.Tensor, final []byte) (*answer, error) {
	stream := len(final) > 0
	size := textSize(respModel, len(v.Name)) + textSize(respVersion, len(v.Text)) + textSize(respID, len(id))
	for i := range outputs {
		size += messageSize(respOutputs, tensorSize(&outputs[i])) + messageSize(respRaw, len(outputs[i].Data))
	}
	total := size
	if stream {
		size += len(final)
		total = messageSize(streamResponse, size)
	}
	if total > math.MaxInt32 {
		return nil, fault.New(fault.TooLarge, "the answer of model '%s' has %d bytes; a message can have %d", v.Name, total, math.MaxInt32)
	}
	if err := account.Acquire(int64(total)); err != nil {
		return nil, err
	}
	buf := buffers.Get(total)
	b := (*buf)[:0]
	if stream {
		b = protowire.AppendVarint(protowire.AppendTag(b, streamResponse, protowire.BytesType), uint64(size))
	}
	b = appendText(b, respModel, v.Name)
	b = appendText(b, respVersion, v.Text)
	b = appendText(b, respID, id)
	b = append(b, final...)
	for i := range outputs {
		b = appendTensor(b, &outputs[i])
	}
	for i := range outputs { // an empty entry counts, too: clients find theirs by index
		b = protowire.AppendBytes(protowire.AppendTag(b, respRaw, protowire.BytesType), outputs[i].Data)
	}
	*buf = b
	pool := buffers
	if total >= largeAnswer {
		pool = newSending(account.Split(int64(total)))
	}
	return &answer{mem.BufferSlice{mem.NewBuffer(buf, pool)}}, nil
}

// encodeError writes the ModelStreamInferResponse of a failed request.
func encodeError(message string, c *call) *answer {
	version := c.version
	if version == "" {
		version = string(c.msg.version)
	}
	var resp []byte
	resp = appendText(resp, respModel, c.msg.model)
	resp = appendText(resp, respVersion, version)
	resp = appendText(resp, respID, c.msg.id)
	resp = append(resp, finals[false]...)
	b := appendText(nil, streamError, message)
	b = protowire.AppendBytes(protowire.AppendTag(b, streamResponse, protowire.BytesType), resp)
	return &answer{mem.BufferSlice{mem.SliceBuffer(b)}}
}

func appendTensor(b []byte, t *tensor.Tensor) []byte {
	b = protowire.AppendTag(b, respOutputs, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(tensorSize(t)))
	b = appendText(b, tensorName, t.Name)
	b = appendText(b, tensorDatatype, t.Datatype.String())
	if len(t.Shape) > 0 {
		b = protowire.AppendTag(b, tensorShape, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(shapeSize(t.Shape)))
		for _, d := range t.Shape {
			b = protowire.AppendVarint(b, uint64(d))
		}
	}
	return b
}

func tensorSize(t *tensor.Tensor) int {
	n := textSize(tensorName, len(t.Name)) + textSize(tensorDatatype, len(t.Datatype.String()))
	if len(t.Shape) > 0 {
		n += messageSize(tensorShape, shapeSize(t.Shape))
	}
	return n
}

func shapeSize(s tensor.Shape) int {
	n := 0
	for _, d := range s {
		n += protowire.SizeVarint(uint64(d))
	}
	return n
}

// messageSize is the size of a length-delimited field with n bytes in it.
func messageSize(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

// textSize is messageSize of a string field, which is left out when empty.
func textSize(field protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return messageSize(field, n)
}

func appendText[B ~[]byte | ~string](b []byte, field protowire.Number, text B) []byte {
	if len(text) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(text)))
	return append(b, text...)
}
