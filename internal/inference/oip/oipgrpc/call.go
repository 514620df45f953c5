package oipgrpc

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// call is one inference request on its way through: the serve.Codec of gRPC.
// The tensors that it decodes are views of the received message wherever that
// is possible, so it holds the message until free.
type call struct {
	account budget.Account // of all memory that the call holds
	buf     mem.Buffer     // the received message; nil until there is one
	msg     message
	slabs   []*tensor.Slab // typed contents and classifications

	version string // the version that serves, once known
	topK    []int  // classes wanted of each requested output; 0 means the tensor
	final   bool   // the answer is one of a stream

	own        *stream.Own     // whose step it is, where it names no sequence
	send       func(any) error // sends each step of a generation; else answer is kept
	sendFailed error
	answer     *answer
	err        error // of the message
}

var calls = sync.Pool{New: func() any { return new(call) }}

func newCall(memory *budget.Budget) *call {
	c := calls.Get().(*call)
	c.account = memory.Account()
	return c
}

// Account implements rpc.Holder and serve.Holding.
func (c *call) Account() *budget.Account { return &c.account }

// free gives the call, its message and its slabs back. Nothing that Decode
// handed out may be in use any more.
func (c *call) free() {
	for _, s := range c.slabs {
		s.Release()
	}
	clear(c.slabs)
	if c.buf != nil {
		c.buf.Free()
	}
	c.account.Release()
	c.msg.reset()
	*c = call{msg: c.msg, slabs: c.slabs[:0], topK: c.topK[:0]}
	calls.Put(c)
}

// open reads the structure of the received message.
func (c *call) open() error {
	if err := c.msg.parse(c.buf.ReadOnlyData()); err != nil {
		c.msg.reset() // what it holds need not be fit for an answer
		return fault.Wrap(fault.Invalid, err, "the ModelInferRequest is malformed: %s", err)
	}
	return c.account.Acquire(c.msg.copied)
}

// identify puts the client's id into the text of an error, if there is one, as
// the REST edge does; cut off, since the text travels in a header.
func (c *call) identify(err error) error {
	if err == nil || len(c.msg.id) == 0 {
		return err
	}
	e := *fault.Of(err)
	e.Message = fmt.Sprintf("[request id: %s] %s", clip(c.msg.id), e.Message)
	return &e
}

// clip returns as much of what a client sent as an error may repeat.
func clip(sent []byte) string {
	const most = 200
	return fault.Clip(string(sent[:min(len(sent), most+1)]), most)
}

// within says in which part of the request an error is.
func within(part string, err error) error {
	e := *fault.Of(err)
	e.Message = part + ": " + e.Message
	return &e
}

// Target implements serve.Codec.
func (c *call) Target() (model, version string) {
	return string(c.msg.model), string(c.msg.version)
}

// Value implements serve.Asking. What HTTP has as headers is metadata.
func (c *call) Value(ctx context.Context, from experiment.Source, name string) string {
	if from == experiment.Attribute {
		return experiment.AttributeOf(first(ctx, experiment.HeaderAttributes), name)
	}
	if from == experiment.Header {
		return first(ctx, name)
	}
	return oip.Value(ctx, nil, from, name)
}

// first returns the first value of the call's metadata with a name.
func first(ctx context.Context, name string) string {
	if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Decode implements serve.Codec.
func (c *call) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	c.version = v.Text
	req.ID = string(c.msg.id)
	if err := c.decodeParams(v, req); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return fault.Of(context.DeadlineExceeded)
		}
		if req.Timeout == 0 || left < req.Timeout {
			req.Timeout = left
		}
	}
	if err := c.decodeInputs(v, req); err != nil {
		return err
	}
	return c.decodeOutputs(v, req)
}

func (c *call) decodeInputs(v *serve.Version, req *serve.Request) error {
	if raw, inputs := len(c.msg.raw), len(c.msg.inputs); raw > 0 && raw != inputs {
		return fault.New(fault.Invalid, "expected one raw_input_contents entry for each of the %d inputs of model '%s', got %d", inputs, v.Name, raw)
	}
	for i := range c.msg.inputs {
		t, err := c.decodeInput(v, i)
		if err != nil {
			return within(fmt.Sprintf("input '%s' for model '%s'", clip(c.msg.inputs[i].name), v.Name), err)
		}
		req.Inputs = append(req.Inputs, t)
	}
	return nil
}

func (c *call) decodeInput(v *serve.Version, i int) (tensor.Tensor, error) {
	in := &c.msg.inputs[i]
	for _, p := range c.msg.portParams[in.params.from:in.params.to] {
		if strings.HasPrefix(string(p.key), "shared_memory_") {
			return tensor.Tensor{}, errSharedMemory
		}
	}
	t := tensor.Tensor{Shape: c.msg.dims[in.shape.from:in.shape.to:in.shape.to]}
	var err error
	if t.Name, t.Datatype, err = declared(v.Signature.Inputs, in); err != nil {
		return t, err
	}
	switch {
	case len(c.msg.raw) == 0:
		t.Data, err = c.decodeContents(&t, in.contents)
	case len(in.contents) > 0:
		err = fault.New(fault.Invalid, "contents and raw_input_contents exclude each other: use one of them for all inputs")
	default:
		t.Data = c.msg.raw[i]
	}
	return t, err
}

// declared returns the input's name and datatype as the model's own strings
// where they agree, which spares copies.
func declared(ports []model.Port, in *input) (string, tensor.Datatype, error) {
	name, datatype := "", tensor.Invalid
	for i := range ports {
		if ports[i].Name == string(in.name) {
			name, datatype = ports[i].Name, ports[i].Datatype
			break
		}
	}
	if name == "" {
		name = string(in.name)
	}
	if string(in.datatype) == datatype.String() && datatype != tensor.Invalid {
		return name, datatype, nil
	}
	datatype, err := tensor.Parse(string(in.datatype))
	return name, datatype, err
}

// decodeContents returns the tensor's data from its typed form.
func (c *call) decodeContents(t *tensor.Tensor, encoded []byte) ([]byte, error) {
	conv := contents{datatype: t.Datatype, field: contentsField(t.Datatype)}
	if conv.field == 0 {
		return nil, fault.New(fault.Invalid, "%s data has no typed contents: send it in raw_input_contents", t.Datatype)
	}
	var err error
	if conv.want, err = t.Shape.Elements(); err != nil {
		return nil, err
	}
	// An element takes at least a byte: this bounds what is set aside below.
	if conv.want > int64(len(encoded)) {
		return nil, fault.New(fault.Invalid, "shape %s calls for %d elements; %s has fewer, and there are no raw_input_contents",
			t.Shape, conv.want, contentsNames[conv.field])
	}
	if data, ok := conv.view(encoded); ok {
		return data, nil
	}
	size := conv.want * int64(t.Datatype.Size())
	if t.Datatype == tensor.Bytes {
		size = int64(len(encoded)) + 4*conv.want
	}
	if err := c.account.Acquire(size); err != nil {
		return nil, err
	}
	slab := tensor.GetSlab(int(size))
	c.slabs = append(c.slabs, slab)
	conv.data = slab.B
	if err := conv.append(encoded); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "contents: %s", err)
	}
	slab.B = conv.data
	return slab.B, nil
}

func (c *call) decodeOutputs(v *serve.Version, req *serve.Request) error {
	for i := range c.msg.outputs {
		out := &c.msg.outputs[i]
		var name string
		if o := findPort(v.Signature.Outputs, out.name); o >= 0 {
			name = v.Signature.Outputs[o].Name
		} else {
			name = string(out.name)
		}
		k := 0
		for _, p := range c.msg.portParams[out.params.from:out.params.to] {
			switch {
			case strings.HasPrefix(string(p.key), "shared_memory_"):
				return fault.New(fault.Unsupported, "output '%s' for model '%s': %s", clip(out.name), v.Name, errSharedMemory.Message)
			case string(p.key) == "classification":
				n, err := p.unsigned(math.MaxInt32)
				if err != nil || n == 0 {
					return fault.New(fault.Invalid, "output '%s' for model '%s': classification must be a number of classes, at least 1, as int64_param", clip(out.name), v.Name)
				}
				k = int(n)
			}
		}
		req.Outputs = append(req.Outputs, name)
		c.topK = append(c.topK, k)
	}
	return nil
}

func findPort(ports []model.Port, name []byte) int {
	for i := range ports {
		if ports[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// tell says as metadata which prediction the answer is, of which arm, and for whom it
// was given.
func (c *call) tell(ctx context.Context, resp *serve.Response) {
	var text [40]byte
	pairs := make([]string, 0, 6)
	if !resp.Prediction.IsZero() && !c.final { // a stream has one header for all of its answers
		pairs = append(pairs, oip.PredictionID, string(resp.Prediction.Append(text[:0])))
	}
	if resp.Choice.Arm != "" {
		pairs = append(pairs, oip.HeaderArm, resp.Choice.Arm)
	}
	if resp.Fallback != "" && !c.final {
		pairs = append(pairs, oip.HeaderFallback, resp.Fallback)
	}
	if len(pairs) > 0 {
		_ = grpc.SetHeader(ctx, metadata.Pairs(pairs...)) // a stream that has begun has sent its own
	}
}

// Encode implements serve.Codec.
func (c *call) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	c.tell(ctx, resp)
	for i, k := range c.topK {
		if k == 0 {
			continue
		}
		classes, slab, err := oip.Classify(&c.account, &resp.Outputs[i], resp.Ports[i], k, v.Batches)
		if err != nil {
			return err
		}
		if slab != nil {
			c.slabs = append(c.slabs, slab)
		}
		resp.Outputs[i] = classes
	}
	final := none
	if c.final {
		final = finals[resp.Step.More]
	}
	before := c.account.Held()
	answer, err := encode(&c.account, v, c.msg.id, resp.Outputs, final)
	if err != nil || c.send == nil {
		c.answer = answer
		return err
	}
	c.sendFailed = c.send(answer)
	c.account.Return(c.account.Held() - before)
	return c.sendFailed
}
