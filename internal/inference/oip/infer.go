package oip

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// HeaderLength is the header with the length of the JSON part of a body; its
// canonical form saves the look-up from making it.
const HeaderLength = "Inference-Header-Content-Length"

// foreseenFrom is how large a body is, in bytes, before which it is asked whether the
// request's refusal is foreseen: reading it can cost as much as answering it. A smaller
// one is mostly there with the head, and Predict asks before it decodes.
const foreseenFrom = 16 << 10

// infer serves one inference request.
func (a *rest) infer(c echo.Context) error {
	start := time.Now()
	if prefer := c.Request().Header["Prefer"]; len(prefer) > 0 && a.config.Durable != nil {
		if wait, durable, err := Preference(prefer); err != nil || durable {
			if err != nil {
				return err
			}
			return a.inferDurably(c, wait)
		}
	}
	model, version := target(c)
	call := newInferCall(a.config.Memory.Account(), model, version)
	defer call.free()
	call.header = c.Request().Header
	if n := c.Request().ContentLength; a.foreseer != nil && (n < 0 || n >= foreseenFrom) {
		if err := a.foreseer.Foresee(c.Request().Context(), call); err != nil {
			return err
		}
	}
	var err error
	if call.body, err = a.readBody(c, &call.account); err != nil {
		return err
	}
	if err := call.split(c.Request().Header[HeaderLength]); err != nil {
		return err
	}
	if err := a.models.Predict(c.Request().Context(), call); err != nil {
		return call.identify(err)
	}
	return call.reply.write(c, &call.account, start)
}

// inferCall is one request to the infer endpoint: a serve.Codec that reads the
// body it holds and leaves the answer in reply. It is pooled as a whole.
type inferCall struct {
	model, version string
	header         http.Header    // of the request
	account        budget.Account // of all memory that the call holds
	body           *tensor.Slab
	text           []byte // the JSON part of body; nil in a raw request
	binary         []byte // what is behind it
	raw            bool   // the body is nothing but the data of the only input
	envelope       envelope
	plan           []outputPlan
	reply          reply
}

var inferCalls = sync.Pool{New: func() any { return new(inferCall) }}

func newInferCall(account budget.Account, model, version string) *inferCall {
	c := inferCalls.Get().(*inferCall)
	c.account, c.model, c.version = account, model, version
	return c
}

// Account implements serve.Holding.
func (c *inferCall) Account() *budget.Account { return &c.account }

// free gives the call and all memory it holds back.
func (c *inferCall) free() {
	c.body.Release()
	c.envelope.reset()
	c.reply.reset()
	c.account.Release()
	*c = inferCall{envelope: c.envelope, plan: c.plan[:0]}
	inferCalls.Put(c)
}

// split divides the body as the client's header says. Without the header all
// of it is JSON; with 0 none is.
func (c *inferCall) split(header []string) error {
	if len(header) == 0 {
		c.text = c.body.B
		return nil
	}
	n, err := strconv.ParseUint(header[0], 10, 63)
	if err != nil || len(header) > 1 {
		return fault.New(fault.Invalid, HeaderLength+" must be one number of bytes, got %.40q", header)
	}
	return c.splitAt(new(int(n)))
}

// splitAt divides the body after so many bytes of JSON; nil is all of it.
func (c *inferCall) splitAt(n *int) error {
	c.text = c.body.B
	if n == nil {
		return nil
	}
	if *n > len(c.text) {
		return fault.New(fault.Invalid, HeaderLength+" says that %d bytes are JSON, but the body has %d", *n, len(c.text))
	}
	c.text, c.binary, c.raw = c.text[:*n], c.text[*n:], *n == 0
	return nil
}

// identify puts the client's id into the text of an error, if there is one, as
// Triton does.
func (c *inferCall) identify(err error) error {
	if err == nil || c.envelope.id == "" {
		return err
	}
	e := *fault.Of(err)
	e.Message = "[request id: " + clip([]byte(c.envelope.id)) + "] " + e.Message
	return &e
}

// Target implements serve.Codec.
func (c *inferCall) Target() (model, version string) { return c.model, c.version }

// Online implements serve.Online.
func (c *inferCall) Online() int { return len(c.text) }

// Decode implements serve.Codec.
func (c *inferCall) Decode(_ context.Context, v *serve.Version, req *serve.Request) error {
	if c.raw {
		return c.decodeRaw(v, req)
	}
	e := &c.envelope
	if err := e.read(c.text, v, &c.account); err != nil {
		return err
	}
	req.ID, req.Timeout, req.Priority = e.id, e.timeout, e.priority
	req.Sequence, req.MaxSteps = e.sequence, e.maxSteps
	for i := range e.inputs {
		in := &e.inputs[i]
		t := tensor.Tensor{Name: in.name, Datatype: in.datatype, Shape: in.shape}
		if in.seen.has(fieldBinarySize) {
			if in.binarySize > uint64(len(c.binary)) {
				return fault.New(fault.Invalid, "unexpected size for input '%s', expecting %d additional bytes for model '%s'",
					in.name, in.binarySize-uint64(len(c.binary)), v.Name)
			}
			t.Data, c.binary = c.binary[:in.binarySize:in.binarySize], c.binary[in.binarySize:]
		} else {
			t.Data = e.data.B[in.start:in.end:in.end]
		}
		req.Inputs = append(req.Inputs, t)
	}
	if len(c.binary) > 0 {
		return fault.New(fault.Invalid, "unexpected additional input data for model '%s': %d bytes are left behind the last input", v.Name, len(c.binary))
	}
	return c.planOutputs(v, req)
}

// decodeRaw takes the body for the data of the model's only input, of one row.
// Its one dimension of variable extent, if any, follows from the size.
func (c *inferCall) decodeRaw(v *serve.Version, req *serve.Request) error {
	if n := len(v.Signature.Inputs); n != 1 {
		return fault.New(fault.Invalid, "a raw binary request needs a model with one input, but model '%s' has %d", v.Name, n)
	}
	port := &v.Signature.Inputs[0]
	c.envelope.inputs = append(c.envelope.inputs[:0], inputSpec{shape: append(tensor.Shape(nil), port.Shape...)})
	shape, data := c.envelope.inputs[0].shape, c.binary
	row := shape
	if v.Batches {
		shape[0], row = 1, shape[1:]
	}
	if port.Datatype == tensor.Bytes {
		// The one element comes without its length.
		if !row.Equal(tensor.Shape{1}) && !row.Equal(tensor.Shape{-1}) {
			return fault.New(fault.Invalid, "a raw binary request for BYTES needs an input of shape [1], but '%s' of model '%s' is %s", port.Name, v.Name, row)
		}
		row[0] = 1
		var err error
		if c.envelope.data, err = getSlab(&c.account, int64(4+len(data))); err != nil {
			return err
		}
		c.envelope.data.B = tensor.AppendBytes(c.envelope.data.B, data)
		data = c.envelope.data.B
	} else if err := fillExtent(row, len(data)/port.Datatype.Size()); err != nil {
		return within("input '"+port.Name+"' of model '"+v.Name+"' in a raw binary request", err)
	}
	c.envelope.binaryOutput = true
	req.Inputs = append(req.Inputs, tensor.Tensor{Name: port.Name, Datatype: port.Datatype, Shape: shape, Data: data})
	return c.planOutputs(v, req)
}

// fillExtent sets the one variable extent of a shape such that it has count
// elements, as far as that is possible.
func fillExtent(shape tensor.Shape, count int) error {
	at, rest := -1, 1
	for i, extent := range shape {
		switch {
		case extent >= 0:
			rest *= int(extent)
		case at >= 0:
			return fault.New(fault.Invalid, "shape %s has more than one variable dimension: send a request with a JSON part", shape)
		default:
			at = i
		}
	}
	if at >= 0 {
		shape[at] = int64(count / max(rest, 1))
	}
	return nil
}

// outputPlan says how one output is written.
type outputPlan struct {
	binary  bool
	classes int
}

// planOutputs decides how each wanted output is written, and refuses what
// cannot be before the model runs for nothing.
func (c *inferCall) planOutputs(v *serve.Version, req *serve.Request) error {
	if len(c.envelope.outputs) == 0 {
		for i := range v.Signature.Outputs {
			if err := c.planOutput(&v.Signature.Outputs[i], outputPlan{binary: c.envelope.binaryOutput}); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range c.envelope.outputs {
		want := &c.envelope.outputs[i]
		o := v.Signature.Output(want.name)
		if o < 0 {
			return fault.New(fault.Invalid, "unexpected inference output '%s' for model '%s'", clip([]byte(want.name)), v.Name)
		}
		port := &v.Signature.Outputs[o]
		binary := c.envelope.binaryOutput
		if want.seen.has(fieldBinary) {
			binary = want.binary
		}
		if err := c.planOutput(port, outputPlan{binary, want.classes}); err != nil {
			return err
		}
		req.Outputs = append(req.Outputs, port.Name)
	}
	return nil
}

func (c *inferCall) planOutput(port *model.Port, p outputPlan) error {
	switch {
	case p.classes > 0 && scoreReader(port.Datatype) == nil:
		return fault.New(fault.Invalid, "class result not available for output '%s' due to unsupported type '%s'", port.Name, port.Datatype)
	case p.classes == 0 && !p.binary && (port.Datatype == tensor.FP16 || port.Datatype == tensor.BF16):
		return fault.New(fault.Invalid, "sending %s data via JSON is not supported. Please use the binary data format for output %s", port.Datatype, port.Name)
	}
	c.plan = append(c.plan, p)
	return nil
}
