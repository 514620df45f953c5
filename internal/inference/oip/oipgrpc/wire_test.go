package oipgrpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
)

// sampleRequest has every field.
func sampleRequest() *pb.ModelInferRequest {
	return &pb.ModelInferRequest{
		ModelName: "m", ModelVersion: "1", Id: "i",
		Parameters: map[string]*pb.InferParameter{
			"b": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: true}},
			"d": {ParameterChoice: &pb.InferParameter_DoubleParam{DoubleParam: 1.5}},
			"n": {},
		},
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "x", Datatype: "INT16", Shape: []int64{2, -1}, Contents: &pb.InferTensorContents{IntContents: []int32{1, -2}},
				Parameters: map[string]*pb.InferParameter{"s": {ParameterChoice: &pb.InferParameter_StringParam{StringParam: "t"}}}},
			{},
		},
		Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{
			{Name: "y", Parameters: map[string]*pb.InferParameter{"u": {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: math.MaxUint64}}}},
		},
		RawInputContents: [][]byte{{1, 2, 3}, {}},
	}
}

// FuzzParse compares parse with proto.Unmarshal: they accept the same bytes and
// read the same from them. Only what is inside of typed contents is checked
// later, and compared by FuzzContents.
func FuzzParse(f *testing.F) {
	whole, err := proto.Marshal(sampleRequest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(slices.Clone(whole), whole...))
	f.Add([]byte{0x0b, 0x08, 0x01, 0x0c})                                                      // a group
	f.Add([]byte{0x08, 0x01, 0x2a, 0x06, 0x18, 0x01, 0x1a, 0x02, 0x02, 0x03})                  // a wrong wire type; an unpacked and a packed shape
	f.Add([]byte{0x22, 0x0a, 0x0a, 0x01, 'k', 0x12, 0x02, 0x10, 0x05, 0x12, 0x02, 0x10, 0x06}) // one entry with two values
	f.Add([]byte{0x2a, 0x08, 0x2a, 0x02, 0x10, 0x01, 0x2a, 0x02, 0x10, 0x02})                  // contents in two halves
	f.Add([]byte{0x2a, 0x07, 0x2a, 0x01, 0x10, 0x2a, 0x02, 0x10, 0x02})                        // the first half cut off
	f.Add([]byte{0xf8, 0xff, 0xff, 0xff, 0x1f, 0x00})                                          // a field number past the last
	f.Fuzz(func(t *testing.T, data []byte) {
		var want pb.ModelInferRequest
		wantErr := proto.Unmarshal(data, &want)
		var got message
		err := got.parse(data)
		if err == nil && wantErr == nil {
			compareMessages(t, &got, &want)
			got.reset()
			if err := got.parse(data); err != nil {
				t.Fatalf("parsed once, but not again: %v", err)
			}
			compareMessages(t, &got, &want)
		}
		if (err == nil) == (wantErr == nil) || errors.Is(err, errDims) || errors.Is(err, errEntries) {
			return
		}
		if err == nil { // then it is in the contents that we have not looked into
			for i := range got.inputs {
				if proto.Unmarshal(got.inputs[i].contents, new(pb.InferTensorContents)) != nil {
					return
				}
			}
		}
		t.Fatalf("parse: %v, proto.Unmarshal: %v", err, wantErr)
	})
}

func compareMessages(t *testing.T, got *message, want *pb.ModelInferRequest) {
	t.Helper()
	if string(got.model) != want.GetModelName() || string(got.version) != want.GetModelVersion() || string(got.id) != want.GetId() {
		t.Fatalf("target %q %q %q, want %v", got.model, got.version, got.id, want)
	}
	compareParams(t, got.params, want.GetParameters())
	if len(got.inputs) != len(want.GetInputs()) || len(got.outputs) != len(want.GetOutputs()) {
		t.Fatalf("%d inputs and %d outputs, want %v", len(got.inputs), len(got.outputs), want)
	}
	for i, w := range want.GetInputs() {
		g := got.inputs[i]
		if string(g.name) != w.GetName() || string(g.datatype) != w.GetDatatype() || !slices.Equal(got.dims[g.shape.from:g.shape.to], w.GetShape()) {
			t.Fatalf("input %d: %q %q %v, want %v", i, g.name, g.datatype, got.dims[g.shape.from:g.shape.to], w)
		}
		compareParams(t, got.portParams[g.params.from:g.params.to], w.GetParameters())
		var c pb.InferTensorContents
		if err := proto.Unmarshal(g.contents, &c); err != nil {
			t.Fatal(err)
		}
		a, _ := proto.MarshalOptions{Deterministic: true}.Marshal(&c)
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(w.GetContents())
		if !bytes.Equal(a, b) { // proto.Equal would hold NaNs unequal
			t.Fatalf("contents %v, want %v", &c, w.GetContents())
		}
	}
	for i, w := range want.GetOutputs() {
		if string(got.outputs[i].name) != w.GetName() {
			t.Fatalf("output %d: %q, want %v", i, got.outputs[i].name, w)
		}
		compareParams(t, got.portParams[got.outputs[i].params.from:got.outputs[i].params.to], w.GetParameters())
	}
	if !slices.EqualFunc(got.raw, want.GetRawInputContents(), bytes.Equal) {
		t.Fatalf("raw contents %x, want %x", got.raw, want.GetRawInputContents())
	}
}

func compareParams(t *testing.T, got []parameter, want map[string]*pb.InferParameter) {
	t.Helper()
	last := make(map[string]parameter)
	for _, p := range got {
		last[string(p.key)] = p
	}
	if len(last) != len(want) {
		t.Fatalf("parameters %v, want %v", last, want)
	}
	for key, w := range want {
		g := last[key]
		same := false
		switch w := w.GetParameterChoice().(type) {
		case nil:
			same = g.kind == 0
		case *pb.InferParameter_BoolParam:
			same = g.kind == boolParam && (g.num != 0) == w.BoolParam
		case *pb.InferParameter_Int64Param:
			same = g.kind == int64Param && int64(g.num) == w.Int64Param
		case *pb.InferParameter_StringParam:
			same = g.kind == stringParam && string(g.text) == w.StringParam
		case *pb.InferParameter_DoubleParam:
			same = g.kind == doubleParam && g.num == math.Float64bits(w.DoubleParam)
		case *pb.InferParameter_Uint64Param:
			same = g.kind == uint64Param && g.num == w.Uint64Param
		}
		if !same {
			t.Fatalf("parameter %q is %+v, want %v", key, g, w)
		}
	}
}

// reference converts contents with the generated message; ok is false where it
// must be refused.
func reference(d tensor.Datatype, encoded []byte) (data []byte, n int64, ok bool) {
	var c pb.InferTensorContents
	if proto.Unmarshal(encoded, &c) != nil {
		return nil, 0, false
	}
	le := binary.LittleEndian
	fields := []int{
		len(c.GetBoolContents()), len(c.GetIntContents()), len(c.GetInt64Contents()), len(c.GetUintContents()),
		len(c.GetUint64Contents()), len(c.GetFp32Contents()), len(c.GetFp64Contents()), len(c.GetBytesContents()),
	}
	for i, count := range fields {
		if count > 0 && protowire.Number(i+1) != contentsField(d) {
			return nil, 0, false
		}
	}
	n, ok = int64(fields[contentsField(d)-1]), true
	for _, v := range c.GetBoolContents() {
		data = append(data, b2u(v))
	}
	for _, v := range c.GetIntContents() {
		switch d {
		case tensor.Int8:
			data, ok = append(data, byte(v)), ok && int32(int8(v)) == v
		case tensor.Int16:
			data, ok = le.AppendUint16(data, uint16(v)), ok && int32(int16(v)) == v
		default:
			data = le.AppendUint32(data, uint32(v))
		}
	}
	for _, v := range c.GetInt64Contents() {
		data = le.AppendUint64(data, uint64(v))
	}
	for _, v := range c.GetUintContents() {
		switch d {
		case tensor.Uint8:
			data, ok = append(data, byte(v)), ok && uint32(uint8(v)) == v
		case tensor.Uint16:
			data, ok = le.AppendUint16(data, uint16(v)), ok && uint32(uint16(v)) == v
		default:
			data = le.AppendUint32(data, v)
		}
	}
	for _, v := range c.GetUint64Contents() {
		data = le.AppendUint64(data, v)
	}
	for _, v := range c.GetFp32Contents() {
		data = le.AppendUint32(data, math.Float32bits(v))
	}
	for _, v := range c.GetFp64Contents() {
		data = le.AppendUint64(data, math.Float64bits(v))
	}
	for _, v := range c.GetBytesContents() {
		data = tensor.AppendBytes(data, v)
	}
	return data, n, ok
}

// FuzzContents compares the converter with one over the generated message.
// Encodings that only the converter refuses are those with an empty or wrongly
// typed field of another datatype.
func FuzzContents(f *testing.F) {
	for _, c := range []*pb.InferTensorContents{
		{BoolContents: []bool{true, false}}, {IntContents: []int32{-128, 127, -32768, 70000}}, {Int64Contents: []int64{-1}},
		{UintContents: []uint32{255, 256, 1 << 31}}, {Uint64Contents: []uint64{1 << 63}}, {Fp32Contents: []float32{1, float32(math.Inf(1))}},
		{Fp64Contents: []float64{math.NaN()}}, {BytesContents: [][]byte{{0xff}, {}}}, {IntContents: []int32{1}, Fp32Contents: []float32{1}},
	} {
		encoded, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		for d := tensor.Bool; d <= tensor.Bytes; d++ {
			f.Add(byte(d), encoded)
		}
	}
	f.Add(byte(tensor.Int8), []byte{0x10, 0x05, 0x12, 0x02, 0x06, 0x07}) // unpacked, then packed
	f.Add(byte(tensor.FP32), []byte{0x35, 1, 2, 3, 4, 0x32, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, datatype byte, encoded []byte) {
		d := tensor.Datatype(datatype)
		if contentsField(d) == 0 {
			return
		}
		want, n, ok := reference(d, encoded)
		for _, elements := range []int64{n, n + 1, n - 1} {
			if elements < 0 {
				continue
			}
			c := contents{datatype: d, field: contentsField(d), want: elements}
			err := c.append(encoded)
			switch {
			case err == nil && (!ok || elements != n):
				t.Fatalf("%s, %d elements: took %x, which has %d (valid: %t)", d, elements, encoded, n, ok)
			case err == nil && !bytes.Equal(c.data, want):
				t.Fatalf("%s: %x became %x, want %x", d, encoded, c.data, want)
			case err != nil && ok && elements == n && !mentionsOtherField(d, encoded):
				t.Fatalf("%s: refused %x: %v", d, encoded, err)
			}
			if data, viewed := c.view(encoded); viewed && (!ok || elements != n || !bytes.Equal(data, want)) {
				t.Fatalf("%s: view of %x is %x, want %x", d, encoded, data, want)
			}
		}
	})
}

func mentionsOtherField(d tensor.Datatype, encoded []byte) bool {
	r := reader{rest: encoded}
	for r.next() {
		if r.field >= boolContents && r.field <= bytesContents && r.field != contentsField(d) {
			return true
		}
	}
	return false
}

// What encode writes is what the generated messages read.
func TestEncodeAgreesWithTheGeneratedMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &serve.Version{Name: rapid.String().Draw(t, "model"), Text: rapid.String().Draw(t, "version")}
		id := rapid.String().Draw(t, "id")
		outputs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) tensor.Tensor {
			return tensor.Tensor{
				Name: rapid.String().Draw(t, "name"), Datatype: tensor.Datatype(rapid.IntRange(1, 14).Draw(t, "type")),
				Shape: rapid.SliceOfN(rapid.Int64Range(0, math.MaxInt64), 0, 5).Draw(t, "shape"),
				Data:  rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
			}
		}), 0, 4).Draw(t, "outputs")
		stream := rapid.Bool().Draw(t, "stream")
		want := &pb.ModelInferResponse{ModelName: v.Name, ModelVersion: v.Text, Id: id}
		var final []byte
		if stream {
			more := rapid.Bool().Draw(t, "more")
			final = finals[more]
			want.Parameters = map[string]*pb.InferParameter{"triton_final_response": {ParameterChoice: &pb.InferParameter_BoolParam{BoolParam: !more}}}
		}
		for _, o := range outputs {
			want.Outputs = append(want.Outputs, &pb.ModelInferResponse_InferOutputTensor{Name: o.Name, Datatype: o.Datatype.String(), Shape: o.Shape})
			want.RawOutputContents = append(want.RawOutputContents, o.Data)
		}
		account := budget.New(1<<30, "memory").Account()
		a, err := encode(&account, v, []byte(id), outputs, final)
		if err != nil {
			t.Fatal(err)
		}
		defer a.data.Free()
		var wrapped pb.ModelStreamInferResponse
		got := new(pb.ModelInferResponse)
		if stream {
			err = proto.Unmarshal(a.data.Materialize(), &wrapped)
			got = wrapped.GetInferResponse()
		} else {
			err = proto.Unmarshal(a.data.Materialize(), got)
		}
		if err != nil || !proto.Equal(got, want) {
			t.Fatalf("%v: got %v, want %v", err, got, want)
		}
	})
}
