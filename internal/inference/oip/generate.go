package oip

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// generate serves the generate extension: a flat JSON object in and out.
func (a *rest) generate(c echo.Context) error {
	call := &generateCall{inferCall: inferCall{account: a.config.Memory.Account()}}
	defer call.free()
	if err := a.runGenerate(c, call); err != nil {
		return err
	}
	c.Response().Header()["Content-Type"] = jsonContent
	c.Response().WriteHeader(200)
	_, err := c.Response().Write(call.answer)
	return err
}

// generateStream is generate with each answer as a server-sent event: one, or as
// many as a generative model has steps. What goes wrong behind the first is an
// event, too: the status is sent by then.
func (a *rest) generateStream(c echo.Context) error {
	defer a.models.Opened("generate_stream")()
	call := &generateCall{inferCall: inferCall{account: a.config.Memory.Account()}, events: &events{c: c}}
	defer call.free()
	err := a.runGenerate(c, call)
	if err != nil && c.Response().Committed && call.events.failed == nil {
		line := append(tensorjson.AppendText([]byte(`{"error":`), fault.Of(err).Text()), '}')
		err = call.events.write(line) // where it fails the client is gone
	}
	return err
}

// events writes server-sent events to a client.
type events struct {
	c      echo.Context
	failed error
}

// eventPatience is how long a client may take for an event.
const eventPatience = 10 * time.Second

// write sends an event of one line, and the header before the first. Each has a
// time limit of its own instead of the server's for a whole answer.
func (e *events) write(line []byte) error {
	r := e.c.Response()
	control := http.NewResponseController(r)
	if err := control.SetWriteDeadline(time.Now().Add(eventPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if !r.Committed {
		h := r.Header()
		h["Content-Type"] = eventContent
		h.Set("Cache-Control", "no-cache, no-transform")
		h.Set("X-Accel-Buffering", "no")
		r.WriteHeader(http.StatusOK)
	}
	_, err := r.Write(append(append([]byte("data: "), line...), "\n\n"...))
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		e.failed = fault.Wrap(fault.Canceled, err, "the client took no more events")
	}
	return e.failed
}

func (a *rest) runGenerate(c echo.Context, call *generateCall) (err error) {
	if encoding := c.Request().Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fault.New(fault.Invalid, "generate takes no compressed requests, got Content-Encoding %.40q", encoding)
	}
	call.model, call.version = target(c)
	call.header = c.Request().Header
	if call.body, err = a.readBody(c, &call.account); err != nil {
		return err
	}
	if call.events != nil {
		return call.identify(a.models.Generate(c.Request().Context(), call, nil))
	}
	return call.identify(a.models.Predict(c.Request().Context(), call))
}

// generateCall is one request to a generate endpoint, as a serve.Codec.
type generateCall struct {
	inferCall
	answer []byte
	events *events // takes the answers; nil keeps the one
}

func (c *generateCall) free() {
	c.body.Release()
	c.envelope.reset()
	c.account.Release()
}

// Decode implements serve.Codec. Members that are named as an input are its
// data, all others are parameters; the same holds within "parameters".
func (c *generateCall) Decode(_ context.Context, v *serve.Version, req *serve.Request) error {
	s := tensorjson.NewScanner(c.body.B)
	var seen fields
	err := s.Object(func(name []byte) (err error) {
		input := v.Signature.Input(string(name))
		switch {
		case input >= 0:
			return c.readInput(&s, &v.Signature.Inputs[input], v.Batches, req)
		case string(name) == "id":
			if err = seen.once(fieldID, name); err == nil {
				c.envelope.id, err = copyText(&s, "id")
			}
			return err
		case string(name) == "parameters":
			if err = seen.once(fieldParameters, name); err != nil {
				return err
			}
			return s.Object(func(name []byte) error {
				if input := v.Signature.Input(string(name)); input >= 0 {
					return c.readInput(&s, &v.Signature.Inputs[input], v.Batches, req)
				}
				return c.envelope.readParameter(&s, name, v)
			})
		}
		return c.envelope.readParameter(&s, name, v)
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		return err
	}
	req.ID, req.Timeout, req.Priority = c.envelope.id, c.envelope.timeout, c.envelope.priority
	req.Sequence, req.MaxSteps = c.envelope.sequence, c.envelope.maxSteps
	c.envelope.binaryOutput = false
	return c.planOutputs(v, req)
}

// readInput reads the value of an input, one element or an array of them.
func (c *generateCall) readInput(s *tensorjson.Scanner, port *model.Port, batches bool, req *serve.Request) error {
	for i := range req.Inputs {
		if req.Inputs[i].Name == port.Name {
			return fault.New(fault.Invalid, "input '%s' is given twice", port.Name)
		}
	}
	isArray := s.Peek() == '['
	value, count := s.Rest(), int64(1)
	var err error
	if isArray {
		count = 0
		err = s.Array(func(int) error { count++; return s.Skip() })
	} else {
		err = s.Skip()
	}
	if err != nil {
		return within("input '"+port.Name+"'", err)
	}
	value = value[:len(value)-len(s.Rest())]
	if !isArray {
		value = bytes.Join([][]byte{{'['}, value, {']'}}, nil)
	}
	t := tensor.Tensor{Name: port.Name, Datatype: port.Datatype}
	if t.Shape, err = fitShape(port.Shape, batches, count); err == nil {
		err = c.account.Acquire(decodedRoom(port.Datatype, t.Shape, len(value)))
	}
	if err == nil {
		t.Data, _, err = tensorjson.Decode(nil, port.Datatype, tensor.Shape{count}, value)
	}
	if err != nil {
		return within("input '"+port.Name+"'", err)
	}
	req.Inputs = append(req.Inputs, t)
	return nil
}

// fitShape gives count elements the model's shape, in one row: of the variable
// extents the innermost takes what the fixed ones leave, the others are 1.
func fitShape(port tensor.Shape, batches bool, count int64) (tensor.Shape, error) {
	shape := append(tensor.Shape{}, port...)
	if batches {
		shape[0] = 1
	}
	inner, fixed := -1, int64(1)
	for i, extent := range shape {
		if extent < 0 {
			inner = i
			shape[i] = 1
		}
		fixed *= shape[i]
	}
	if inner >= 0 && fixed > 0 {
		shape[inner] = count / fixed
	}
	if n, err := shape.Elements(); err != nil || n != count {
		return nil, fault.New(fault.Invalid, "%d values do not fit its shape %s", count, port)
	}
	return shape, nil
}

// Encode implements serve.Codec.
func (c *generateCall) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	b := appendHead(nil, c.envelope.id, v)
	for i := range resp.Outputs {
		t := &resp.Outputs[i]
		b = append(b, ',')
		b = append(tensorjson.AppendText(b, t.Name), ':')
		start := len(b)
		var err error
		if b, err = tensorjson.Encode(b, t.Datatype, t.Data); err != nil {
			return within("output '"+t.Name+"'", err)
		}
		if n, err := t.Shape.Elements(); err == nil && n == 1 { // a bare value
			b = append(b[:start], b[start+1:len(b)-1]...)
		}
	}
	c.answer = append(b, '}')
	size := int64(cap(c.answer))
	if err := c.account.Acquire(size); err != nil || c.events == nil {
		return err
	}
	defer c.account.Return(size)
	if resp.Step.More {
		web.Stream(ctx) // sequences, of which a generation is one, have limits of their own
	}
	return c.events.write(c.answer)
}
