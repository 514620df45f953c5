package oip

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"unicode/utf8"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

// reference is an infer request as encoding/json reads it.
type reference struct {
	ID     *string `json:"id"`
	Inputs []struct {
		Name, Datatype *string
		Shape          []json.Number
		Data           json.RawMessage
	} `json:"inputs"`
}

// FuzzInferRequest: nothing makes decoding panic or fail with anything but the
// client's fault; what it accepts is JSON and means what encoding/json reads.
func FuzzInferRequest(f *testing.F) {
	for _, s := range []string{jsonRequest, `{"id":"1","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}`,
		`{"parameters":{"binary_data_output":true},"inputs":[{"data":[[1],[2]],"shape":[2,1],"datatype":"FP32","name":"\u0078"}],"outputs":[{"name":"x_OUT","parameters":{"classification":1}}]}`,
		`{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}`} {
		f.Add([]byte(s), []byte("\x00\x00\x80\x3f"), "")
		f.Add([]byte(s), []byte("\x00\x00\x80\x3f"), strconv.Itoa(len(s)))
		f.Add([]byte(s), []byte{}, "0")
	}
	m := testModels()
	f.Fuzz(func(t *testing.T, text, tail []byte, header string) {
		call := newInferCall(memory.Account(), "m", "")
		defer call.free()
		call.body = tensor.GetSlab(len(text) + len(tail))
		call.body.B = append(append(call.body.B, text...), tail...)
		var headers []string
		if header != "" {
			headers = []string{header}
		}
		err := call.split(headers)
		text, raw := bytes.Clone(call.text), call.raw
		if err == nil {
			err = m.Predict(context.Background(), call)
		}
		if err != nil {
			if kind := fault.Of(err).Kind; kind != fault.Invalid && kind != fault.Unsupported {
				t.Errorf("%q: %v (%s)", text, err, kind)
			}
			return
		}
		answer := call.reply.body.B[:call.reply.textSize]
		if _, err := tensorjson.Skip(answer); err != nil {
			t.Errorf("answered %s: %v", answer, err)
		}
		if bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Infinity")) || !utf8.Valid(text) || raw {
			return
		}
		var want reference
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("accepted %q, encoding/json: %v", text, err)
		}
		// encoding/json ignores case in names and lets the last of two win.
		if len(want.Inputs) == 1 && want.Inputs[0].Name != nil && *want.Inputs[0].Name == "x" && want.ID != nil && call.envelope.id != "" && *want.ID != call.envelope.id {
			t.Errorf("%q: id %q, want %q", text, call.envelope.id, *want.ID)
		}
	})
}

func FuzzGenerateRequest(f *testing.F) {
	for _, s := range []string{`{"t":"a"}`, `{"parameters":{"t":["a"],"n":1},"id":"x"}`, `{"t":[`, `{"t":1}`} {
		f.Add([]byte(s))
	}
	m := testModels()
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range []string{"text", "m", "alone"} {
			call := &generateCall{inferCall: inferCall{account: memory.Account(), model: name, body: &tensor.Slab{B: text}}}
			err := m.Predict(context.Background(), call)
			if err != nil && fault.Of(err).Kind != fault.Invalid {
				t.Errorf("%q: %v", text, err)
			}
			if err == nil && !utf8.Valid(call.answer) {
				t.Errorf("answered %q", call.answer)
			}
		}
	})
}

var _ serve.Codec = (*inferCall)(nil)
