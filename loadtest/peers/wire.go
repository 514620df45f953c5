package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/loadtest/load"
	"sluice/loadtest/workload"
)

// prepare returns the requests of a workload for a model as a server has it, and
// connections that carry them.
func (w wire) prepare(addr, served string, work *workload.Workload, c cell) ([]*load.Request, []load.Conn, error) {
	var requests []*load.Request
	for i, inputs := range work.Inputs {
		want := work.Answers[i]
		r := &load.Request{Check: workload.Checker(want)}
		var err error
		switch w {
		case oip:
			r.Wire, err = load.Infer(addr, served, inputs, c.encoding, 0)
		case grpc:
			r.Check = workload.CheckerOf(load.MessageOutputs, want)
			r.Wire, err = load.InferMessage(served, inputs)
		case plain:
			r.Check = workload.CheckerOf(arrayOf(want[0]), want)
			r.Wire, err = array(addr, served, inputs[0])
		}
		if err != nil {
			return nil, nil, err
		}
		requests = append(requests, r)
	}
	if w == grpc {
		conns, err := load.GRPC(addr, c.connections, "")
		return requests, conns, err
	}
	balancer, err := load.NewBalancer(addr)
	if err != nil {
		return nil, nil, err
	}
	return requests, balancer.Conns(c.connections), nil
}

// array returns a request whose body is {"input": nested lists}.
func array(addr, served string, in tensor.Tensor) ([]byte, error) {
	flat, err := tensorjson.Encode(nil, in.Datatype, in.Data)
	if err != nil {
		return nil, err
	}
	var values []json.RawMessage
	if err := json.Unmarshal(flat, &values); err != nil {
		return nil, err
	}
	nested, err := json.Marshal(map[string]any{"input": nest(values, in.Shape)})
	return load.Post(addr, "/"+served, "Content-Type: application/json\r\n", nested), err
}

// nest turns a flat list into lists of lists.
func nest(values []json.RawMessage, shape tensor.Shape) any {
	if len(shape) <= 1 {
		return values
	}
	part := len(values) / int(shape[0])
	out := make([]any, shape[0])
	for i := range out {
		out[i] = nest(values[i*part:(i+1)*part], shape[1:])
	}
	return out
}

// arrayOf decodes nested lists of numbers as the one output that is expected.
func arrayOf(like tensor.Tensor) func(load.Answer) ([]tensor.Tensor, error) {
	return func(a load.Answer) ([]tensor.Tensor, error) {
		var doc any
		if err := json.Unmarshal(a.Body, &doc); err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		t := tensor.Tensor{Name: like.Name, Datatype: like.Datatype, Shape: like.Shape}
		t.Data = flatten(nil, doc)
		return []tensor.Tensor{t}, t.Validate()
	}
}

func flatten(out []byte, v any) []byte {
	switch v := v.(type) {
	case float64:
		return binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(v)))
	case []any:
		for _, e := range v {
			out = flatten(out, e)
		}
	}
	return out
}
