package oipgrpc

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// message is a ModelInferRequest read in place: every slice of bytes in it is a
// view of the received message. It is what proto.Unmarshal would have made of
// it, except that typed contents stay encoded until their datatype is known.
type message struct {
	model, version, id []byte
	params             []parameter
	inputs             []input
	outputs            []output
	raw                [][]byte

	// dims and portParams hold the shapes and parameters of all inputs and
	// outputs, each of which knows its own stretch.
	dims       []int64
	portParams []parameter
	copied     int64 // bytes of contents that had to be joined
}

type input struct {
	name, datatype []byte
	shape, params  stretch
	contents       []byte // an encoded InferTensorContents
	joined         bool   // contents are a copy, of several parts
}

type output struct {
	name   []byte
	params stretch
}

// stretch is a part of a slice that is still growing.
type stretch struct{ from, to int }

// parameter is one entry of a parameters map. Where a key comes twice the later
// one counts.
type parameter struct {
	key  []byte
	kind paramKind
	num  uint64 // of bool, int64, uint64 and (as bits) double
	text []byte
}

// paramKind is the field number of InferParameter's choice; 0 means none made.
type paramKind protowire.Number

const (
	boolParam paramKind = iota + 1
	int64Param
	stringParam
	doubleParam
	uint64Param
)

// maxEntries is the most inputs, outputs, contents and parameters of a request,
// each; their encoding can be much smaller than what is made of them.
const maxEntries = 1024

// keepEntries is the most of them that a pooled message keeps room for.
const keepEntries = 64

func (m *message) reset() {
	if cap(m.params) > keepEntries || cap(m.inputs) > keepEntries || cap(m.outputs) > keepEntries || cap(m.raw) > keepEntries ||
		cap(m.portParams) > keepEntries || cap(m.dims) > keepEntries*tensor.MaxDims {
		*m = message{}
		return
	}
	clear(m.params)
	clear(m.inputs)
	clear(m.outputs)
	clear(m.raw)
	clear(m.portParams)
	*m = message{
		params: m.params[:0], inputs: m.inputs[:0], outputs: m.outputs[:0], raw: m.raw[:0],
		dims: m.dims[:0], portParams: m.portParams[:0],
	}
}

// parse fills the empty message from its encoding.
func (m *message) parse(data []byte) error {
	r := reader{rest: data}
	for r.next() {
		if r.kind != protowire.BytesType {
			continue // all fields are of this wire type: another is an unknown field
		}
		switch r.field {
		case 1:
			m.model = r.text()
		case 2:
			m.version = r.text()
		case 3:
			m.id = r.text()
		case 4:
			m.params = append(m.params, r.parameter())
		case 5:
			m.inputs = append(m.inputs, m.parseInput(&r))
		case 6:
			m.outputs = append(m.outputs, m.parseOutput(&r))
		case 7:
			m.raw = append(m.raw, r.bytes)
		}
		if max(len(m.params), len(m.inputs), len(m.outputs), len(m.raw), len(m.portParams)) > maxEntries {
			r.fail(errEntries)
		}
	}
	return r.err
}

func (m *message) parseInput(parent *reader) input {
	in := input{shape: stretch{from: len(m.dims)}, params: stretch{from: len(m.portParams)}}
	r := reader{rest: parent.bytes}
	for r.next() {
		switch {
		case r.field == 3:
			m.dims = r.appendInts(m.dims, in.shape.from+tensor.MaxDims)
		case r.kind != protowire.BytesType:
		case r.field == 1:
			in.name = r.text()
		case r.field == 2:
			in.datatype = r.text()
		case r.field == 4:
			m.appendPortParam(&r)
		case r.field == 5 && in.contents == nil:
			in.contents = r.bytes
		case r.field == 5: // parts of a message, each whole in itself, join by concatenation
			if !in.joined {
				r.fail(wellFormed(in.contents))
				in.contents, in.joined = bytes.Clone(in.contents), true
			}
			r.fail(wellFormed(r.bytes))
			in.contents = append(in.contents, r.bytes...)
		}
	}
	in.shape.to, in.params.to = len(m.dims), len(m.portParams)
	if in.joined {
		m.copied += int64(cap(in.contents))
	}
	parent.fail(r.err)
	return in
}

// appendPortParam takes one parameter of an input or output; all of them count
// together.
func (m *message) appendPortParam(r *reader) {
	if len(m.portParams) == maxEntries {
		r.fail(errEntries)
		return
	}
	m.portParams = append(m.portParams, r.parameter())
}

func (m *message) parseOutput(parent *reader) output {
	out := output{params: stretch{from: len(m.portParams)}}
	r := reader{rest: parent.bytes}
	for r.next() {
		switch {
		case r.kind != protowire.BytesType:
		case r.field == 1:
			out.name = r.text()
		case r.field == 2:
			m.appendPortParam(&r)
		}
	}
	out.params.to = len(m.portParams)
	parent.fail(r.err)
	return out
}

// reader walks over the fields of one encoded message.
type reader struct {
	rest  []byte
	field protowire.Number
	kind  protowire.Type
	num   uint64 // the value of a varint, fixed32 or fixed64
	bytes []byte // the value of a length-delimited field
	err   error
}

// next moves to the next field, and returns false at the end and on an error.
func (r *reader) next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	var n int
	if r.field, r.kind, n = protowire.ConsumeTag(r.rest); n < 0 {
		return r.fail(protowire.ParseError(n))
	}
	if r.field > protowire.MaxValidNumber {
		return r.fail(errField)
	}
	r.rest = r.rest[n:]
	switch r.kind {
	case protowire.VarintType:
		r.num, n = protowire.ConsumeVarint(r.rest)
	case protowire.BytesType:
		r.bytes, n = protowire.ConsumeBytes(r.rest)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(r.rest)
		r.num = uint64(v)
	case protowire.Fixed64Type:
		r.num, n = protowire.ConsumeFixed64(r.rest)
	default:
		n = protowire.ConsumeFieldValue(r.field, r.kind, r.rest)
	}
	if n < 0 {
		return r.fail(protowire.ParseError(n))
	}
	r.rest = r.rest[n:]
	return true
}

// fail keeps the first error, and returns false for next.
func (r *reader) fail(err error) bool {
	if r.err == nil {
		r.err = err
	}
	return false
}

// wellFormed walks over a message without looking into it.
func wellFormed(encoded []byte) error {
	r := reader{rest: encoded}
	for r.next() {
	}
	return r.err
}

var errField = fault.New(fault.Invalid, "a field number is out of range")

var (
	errEntries = fault.New(fault.Invalid, "more than %d inputs, outputs, raw_input_contents or parameters", maxEntries)
	errDims    = fault.New(fault.Invalid, "an input's shape has more than %d dimensions", tensor.MaxDims)
)

var errUTF8 = fault.New(fault.Invalid, "a name, id, datatype or parameter is not valid UTF-8")

// text returns the value of a string field.
func (r *reader) text() []byte {
	if !utf8.Valid(r.bytes) {
		r.fail(errUTF8)
	}
	return r.bytes
}

// appendInts appends the value of a repeated int64 field, packed or not, up to a
// length of most.
func (r *reader) appendInts(to []int64, most int) []int64 {
	switch r.kind {
	case protowire.VarintType:
		if len(to) == most {
			r.fail(errDims)
			break
		}
		return append(to, int64(r.num))
	case protowire.BytesType:
		for rest := r.bytes; len(rest) > 0; {
			if len(to) == most {
				r.fail(errDims)
				break
			}
			v, n := protowire.ConsumeVarint(rest)
			if n < 0 {
				r.fail(protowire.ParseError(n))
				break
			}
			to, rest = append(to, int64(v)), rest[n:]
		}
	}
	return to
}

// parameter returns the value of a map<string, InferParameter> field.
func (r *reader) parameter() parameter {
	var p parameter
	entry := reader{rest: r.bytes}
	for entry.next() {
		switch {
		case entry.kind != protowire.BytesType:
		case entry.field == 1:
			p.key = entry.text()
		case entry.field == 2:
			entry.choice(&p)
		}
	}
	r.fail(entry.err)
	return p
}

// choice merges the value of an InferParameter field into p.
func (r *reader) choice(p *parameter) {
	v := reader{rest: r.bytes}
	for v.next() {
		kind := paramKind(v.field)
		switch {
		case (kind == boolParam || kind == int64Param || kind == uint64Param) && v.kind == protowire.VarintType,
			kind == doubleParam && v.kind == protowire.Fixed64Type:
			p.kind, p.num, p.text = kind, v.num, nil
		case kind == stringParam && v.kind == protowire.BytesType:
			p.kind, p.num, p.text = kind, 0, v.text()
		}
	}
	r.fail(v.err)
}
