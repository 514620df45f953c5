package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

type version = serve.Version

// maxWrong is how many wrong rows are told at once.
const maxWrong = 100

// tensors makes tensors of rows: along the first dimension of each input, in the
// order of the rows. What is wrong with the rows is told for a hundred of them.
func tensors(v *version, rows []Row) (json.RawMessage, error) {
	if !v.Batches {
		return nil, fault.New(fault.Unprocessable, "model '%s' has no dimension for rows: send inputs", v.Name).WithCode("rows_invalid")
	}
	out := []byte("[")
	var wrong []fault.Detail
	for i := range v.Signature.Inputs {
		port := &v.Signature.Inputs[i]
		if i > 0 {
			out = append(out, ',')
		}
		var found []fault.Detail
		if out, found = column(out, port, rows); len(wrong) < maxWrong {
			wrong = append(wrong, found...)
		}
	}
	wrong = append(wrong, strangers(v, rows)...)
	if len(wrong) > 0 {
		return nil, fault.New(fault.Unprocessable, "the rows do not fit model '%s'", v.Name).WithCode("rows_invalid").WithDetails(wrong[:min(len(wrong), maxWrong)]...)
	}
	return append(out, ']'), nil
}

// column appends the tensor of one input.
func column(out []byte, port *model.Port, rows []Row) (_ []byte, wrong []fault.Detail) {
	var data []byte
	var first []int // the extents of the first row's value
	for i, row := range rows {
		value, ok := row[port.Name]
		if !ok {
			wrong = append(wrong, detail(i, port.Name, "missing", "the model's input is missing"))
			continue
		}
		flat, shape, err := flatten(value)
		if err == nil {
			shape, err = fits(port, shape, first)
		}
		if err != nil {
			wrong = append(wrong, detail(i, port.Name, "invalid_value", fault.Of(err).Text()))
			continue
		}
		if first == nil {
			first = shape
		}
		if len(data) > 0 && len(flat) > 0 {
			data = append(data, ',')
		}
		data = append(data, flat...)
	}
	out = append(out, `{"name":`...)
	out = tensorjson.AppendText(out, port.Name)
	out = append(out, `,"datatype":"`+port.Datatype.String()+`","shape":[`...)
	out = strconv.AppendInt(out, int64(len(rows)), 10)
	for d := 1; d < len(port.Shape); d++ {
		out = append(out, ',')
		extent := port.Shape[d]
		if d <= len(first) {
			extent = int64(first[d-1])
		}
		out = strconv.AppendInt(out, extent, 10)
	}
	out = append(out, `],"data":[`...)
	return append(append(out, data...), `]}`...), wrong
}

// fits checks a value's extents: by the port, and where the port leaves them open by the
// first row. It returns them; a single value may stand for a list of one.
func fits(port *model.Port, shape, first []int) ([]int, error) {
	want := port.Shape[1:]
	if len(shape) == 0 && len(want) == 1 && (want[0] == 1 || want[0] < 0) {
		shape = []int{1}
	}
	if len(shape) != len(want) {
		return nil, fault.New(fault.Unprocessable, "expected %d nested lists, got %d", len(want), len(shape))
	}
	for d, n := range shape {
		if want[d] >= 0 && int64(n) != want[d] || first != nil && d < len(first) && n != first[d] {
			return nil, fault.New(fault.Unprocessable, "expected lists of the shape %v, got %v", want, shape)
		}
	}
	return shape, nil
}

// flatten returns the values of nested lists, separated by commas, and the lists'
// lengths. All lists of a level have the same.
func flatten(value json.RawMessage) (flat []byte, shape []int, err error) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || value[0] != '[' {
		if len(value) > 0 && value[0] == '{' {
			return nil, nil, fault.New(fault.Unprocessable, "expected a value or nested lists of values, got an object")
		}
		return value, nil, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(value, &items); err != nil {
		return nil, nil, fault.New(fault.Unprocessable, "the list cannot be read")
	}
	var inner []int
	for i, item := range items {
		part, sub, err := flatten(item)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 && !slices.Equal(sub, inner) {
			return nil, nil, fault.New(fault.Unprocessable, "the nested lists have different lengths")
		}
		inner = sub
		if len(flat) > 0 && len(part) > 0 {
			flat = append(flat, ',')
		}
		flat = append(flat, part...)
	}
	return flat, append([]int{len(items)}, inner...), nil
}

// strangers returns what is wrong with values under names that no input has.
func strangers(v *version, rows []Row) (wrong []fault.Detail) {
	for i, row := range rows {
		for name := range row {
			if v.Signature.Input(name) < 0 && len(wrong) < maxWrong {
				wrong = append(wrong, detail(i, name, "unknown_input", "the model has no such input"))
			}
		}
	}
	return wrong
}

func detail(row int, name, code, message string) fault.Detail {
	return fault.Detail{Pointer: "/rows/" + strconv.Itoa(row) + "/" + fault.Clip(name, 100), Code: code, Message: message}
}
