package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
)

// Encoding is how the tensors of a request and its answer travel.
type Encoding int

// The encodings of the protocol over HTTP.
const (
	Binary Encoding = iota // the binary tensor data extension, both ways
	JSON
)

// Infer returns the inference request for a model in its wire form. The
// timeout, in microseconds, is the protocol's request parameter; 0 sends none.
// Fields are further header lines, each ending in CRLF.
func Infer(addr, model string, inputs []tensor.Tensor, e Encoding, timeout int64, fields ...string) ([]byte, error) {
	var head, blobs []byte
	head = append(head, `{"inputs":[`...)
	for i, in := range inputs {
		if i > 0 {
			head = append(head, ',')
		}
		head = append(head, `{"name":`...)
		head = tensorjson.AppendText(head, in.Name)
		head = append(head, `,"shape":`...)
		head = in.Shape.Append(head)
		head = append(head, `,"datatype":"`+in.Datatype.String()+`",`...)
		var err error
		if e == Binary {
			head = append(head, `"parameters":{"binary_data_size":`...)
			head = strconv.AppendInt(head, int64(len(in.Data)), 10)
			head = append(head, `}}`...)
			blobs = append(blobs, in.Data...)
			continue
		}
		head = append(head, `"data":`...)
		if head, err = tensorjson.Encode(head, in.Datatype, in.Data); err != nil {
			return nil, err
		}
		head = append(head, '}')
	}
	head = append(head, ']')
	head = appendParameters(head, e, timeout)
	head = append(head, '}')

	kind := "Content-Type: application/json\r\n"
	if e == Binary {
		kind = "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: " + strconv.Itoa(len(head)) + "\r\n"
	}
	return Post(addr, "/v2/models/"+model+"/infer", kind+strings.Join(fields, ""), append(head, blobs...)), nil
}

func appendParameters(b []byte, e Encoding, timeout int64) []byte {
	switch {
	case e == Binary && timeout > 0:
		return fmt.Appendf(b, `,"parameters":{"binary_data_output":true,"timeout":%d}`, timeout)
	case e == Binary:
		return append(b, `,"parameters":{"binary_data_output":true}`...)
	case timeout > 0:
		return fmt.Appendf(b, `,"parameters":{"timeout":%d}`, timeout)
	}
	return b
}

// Post returns a POST request in its wire form. Fields are further header
// lines, each ending in CRLF.
func Post(addr, path, fields string, body []byte) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n", path, addr, fields, len(body))
	return append(b, body...)
}

// Body returns the body of a request that Infer or Post made.
func Body(wire []byte) []byte {
	_, body, _ := bytes.Cut(wire, []byte("\r\n\r\n"))
	return body
}

// Outputs decodes the outputs of an inference answer, binary or JSON. Their
// data are views into the answer where it is binary.
func Outputs(a Answer) ([]tensor.Tensor, error) {
	head, blobs := a.Body, []byte(nil)
	if a.HeaderLength >= 0 {
		head, blobs = a.Body[:a.HeaderLength], a.Body[a.HeaderLength:]
	}
	var doc struct {
		Outputs []struct {
			Name       string
			Shape      []int64
			Datatype   string
			Data       json.RawMessage
			Parameters struct {
				Size *int `json:"binary_data_size"`
			}
		}
	}
	if err := json.Unmarshal(head, &doc); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	var outputs []tensor.Tensor
	for _, o := range doc.Outputs {
		t := tensor.Tensor{Name: o.Name, Shape: o.Shape}
		var err error
		if t.Datatype, err = tensor.Parse(o.Datatype); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.Name, err)
		}
		if size := o.Parameters.Size; size != nil {
			if *size < 0 || *size > len(blobs) {
				return nil, fmt.Errorf("output %q: says it has %d bytes, %d are left", o.Name, *size, len(blobs))
			}
			t.Data, blobs = blobs[:*size], blobs[*size:]
		} else if t.Data, _, err = tensorjson.Decode(nil, t.Datatype, t.Shape, o.Data); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.Name, err)
		}
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.Name, err)
		}
		outputs = append(outputs, t)
	}
	if len(blobs) > 0 {
		return nil, fmt.Errorf("answer: %d bytes follow the last output", len(blobs))
	}
	return outputs, nil
}
