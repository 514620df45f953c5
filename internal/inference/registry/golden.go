package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

// tensorDoc is a tensor as the Open Inference Protocol writes it in JSON.
type tensorDoc struct {
	Name     string          `json:"name"`
	Shape    tensor.Shape    `json:"shape"`
	Datatype string          `json:"datatype"`
	Data     json.RawMessage `json:"data"`
}

// ParseGolden reads a golden run: what a model is given, {"inputs": […]}, and what
// it has to answer, {"outputs": […]}, both with tensors as in the Open Inference
// Protocol. It fails with fault.Unprocessable and code "golden_invalid".
func ParseGolden(inputs, outputs []byte) (*probe.Golden, error) {
	var in struct {
		Inputs []tensorDoc `json:"inputs"`
	}
	var out struct {
		Outputs []tensorDoc `json:"outputs"`
	}
	if err := strict(GoldenInputs, inputs, &in); err != nil {
		return nil, err
	}
	if err := strict(GoldenOutputs, outputs, &out); err != nil {
		return nil, err
	}
	g := &probe.Golden{}
	var err error
	if g.Inputs, err = tensors(GoldenInputs, in.Inputs); err != nil {
		return nil, err
	}
	g.Outputs, err = tensors(GoldenOutputs, out.Outputs)
	return g, err
}

func strict(name string, data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badGolden("%s is not the JSON that was expected: %v", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badGolden("%s has something behind its JSON", name)
	}
	return nil
}

func tensors(file string, docs []tensorDoc) ([]tensor.Tensor, error) {
	if len(docs) == 0 {
		return nil, badGolden("%s has no tensors", file)
	}
	out := make([]tensor.Tensor, len(docs))
	for i, t := range docs {
		d, err := tensor.Parse(t.Datatype)
		if err != nil {
			return nil, badGolden("%s: tensor %.80q: %s", file, t.Name, fault.Of(err).Message)
		}
		data, n, err := tensorjson.Decode(nil, d, t.Shape, t.Data)
		if err != nil {
			return nil, badGolden("%s: tensor %.80q: %s", file, t.Name, fault.Of(err).Message)
		}
		if len(bytes.TrimSpace(t.Data[n:])) > 0 {
			return nil, badGolden("%s: tensor %.80q has more data than its shape", file, t.Name)
		}
		out[i] = tensor.Tensor{Name: t.Name, Datatype: d, Shape: t.Shape, Data: data}
	}
	return out, nil
}

func badGolden(format string, args ...any) error {
	return fault.New(fault.Unprocessable, format, args...).WithCode("golden_invalid")
}
