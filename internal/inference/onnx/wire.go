package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/platform/fault"
)

// structure checks that a file is well-formed protobuf of the ONNX messages,
// within the limits on counts and nesting, before anything looks at what the
// messages mean. It is stricter than protobuf: unknown fields, groups, and
// singular fields that occur twice are refused, because what another parser
// makes of them is what hides a second model inside a first.
type structure struct {
	limits  *Limits
	counts  [messageCount]int
	entries int
}

// misplaced is a failure with the path of fields to it, built while unwinding.
type misplaced struct {
	path  string
	fault *fault.Error
}

func (m *misplaced) within(step string) *misplaced {
	if m.path != "" {
		step += "."
	}
	m.path = step + m.path
	return m
}

// maxPath is the most bytes of a path in a message.
const maxPath = 240

func checkStructure(data []byte, limits *Limits) error {
	s := structure{limits: limits}
	if m := s.message(modelMessage, data, 0); m != nil {
		path := m.within("model").path
		if len(path) > maxPath { // of deep nesting: both ends say enough
			path = path[:maxPath/2] + "…" + path[len(path)-maxPath/2:]
		}
		return at(m.fault, "%s", path)
	}
	return nil
}

// message checks the fields of one message and, recursively, what they hold.
func (s *structure) message(id messageID, b []byte, depth int) *misplaced {
	msg := &messages[id]
	if id == refusedMessage {
		return bad(fault.Unsupported, "this field is not supported")
	}
	if msg.recursive {
		if depth++; depth > s.limits.MaxDepth {
			return bad(fault.TooLarge, "nested more than %d deep", s.limits.MaxDepth)
		}
	}
	var seen [32]int32
	for len(b) > 0 {
		num, wire, n := protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
		if b[0] >= 0x80 || num == 0 { // the rare long form
			num, wire, n = protowire.ConsumeTag(b)
		}
		if n < 0 {
			return bad(fault.Invalid, "field tag is malformed: %s", wireError(n))
		}
		if int(num) >= len(msg.fields) || msg.fields[num].kind == unknown {
			return bad(fault.Invalid, "unknown field %d", num)
		}
		f := &msg.fields[num]
		if seen[num]++; seen[num] > 1 && !f.many {
			return bad(fault.Invalid, "field occurs more than once").within(f.label)
		}
		used, m := s.field(f, wire, b[n:], depth)
		if m != nil {
			if f.many {
				return m.within(fmt.Sprintf("%s[%d]", f.label, seen[num]-1))
			}
			return m.within(f.label)
		}
		b = b[n+used:]
	}
	return nil
}

// field checks one occurrence of a field at the start of b and returns the
// bytes that it takes.
func (s *structure) field(f *field, wire protowire.Type, b []byte, depth int) (int, *misplaced) {
	if wire == protowire.BytesType && (f.kind >= name || f.many) {
		size, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return 0, bad(fault.Invalid, "length is malformed: %s", wireError(n))
		}
		if size > uint64(len(b)-n) {
			return 0, bad(fault.Invalid, "says it has %d bytes, but %d are left in the message", size, len(b)-n)
		}
		end := n + int(size)
		return end, s.content(f, b[n:end], depth)
	}
	if wire != wireTypes[f.kind] {
		return 0, bad(fault.Invalid, "has wire type %d where %d belongs", wire, wireTypes[f.kind])
	}
	if wire == protowire.VarintType && len(b) > 0 && b[0] < 0x80 {
		return 1, nil
	}
	n := protowire.ConsumeFieldValue(1, wire, b)
	if n < 0 {
		return 0, bad(fault.Invalid, "value is malformed: %s", wireError(n))
	}
	return n, nil
}

// content checks what a length-delimited field holds: a message, a string,
// bytes, or packed numbers.
func (s *structure) content(f *field, b []byte, depth int) *misplaced {
	if m := s.count(f); m != nil {
		return m
	}
	switch f.kind {
	case nests:
		return s.message(f.of, b, depth)
	case name:
		if len(b) > s.limits.MaxNameBytes {
			return bad(fault.TooLarge, "name of %d bytes; at most %d are allowed", len(b), s.limits.MaxNameBytes)
		}
		fallthrough
	case text:
		if !utf8.Valid(b) {
			return bad(fault.Invalid, "%.40q is not valid UTF-8", b)
		}
	case varint:
		for len(b) > 0 {
			n := varintSize(b)
			if n < 0 {
				return bad(fault.Invalid, "packed value is malformed: %s", wireError(n))
			}
			b = b[n:]
		}
	case fixed32, fixed64:
		if size := fixedSize(f.kind); len(b)%size != 0 {
			return bad(fault.Invalid, "%d bytes are no whole number of %d-byte values", len(b), size)
		}
	}
	return nil
}

// count holds each kind of part to its limit.
func (s *structure) count(f *field) *misplaced {
	n, most, what := &s.entries, s.limits.MaxEntries, "strings, dimensions and other entries"
	if f.kind == nests {
		limit, special := 0, true
		switch f.of {
		case nodeMessage:
			limit, what = s.limits.MaxNodes, "nodes"
		case graphMessage: // at most one per node in honest files
			limit, what = s.limits.MaxNodes, "subgraphs"
		case tensorMessage:
			limit, what = s.limits.MaxTensors, "tensors"
		case attributeMessage:
			limit, what = s.limits.MaxAttributes, "attributes"
		case valueMessage:
			limit, what = s.limits.MaxValues, "values"
		case functionMessage:
			limit, what = s.limits.MaxFunctions, "functions"
		default:
			special = false
		}
		if special {
			n, most = &s.counts[f.of], limit
		}
	}
	if *n++; *n > most {
		return bad(fault.TooLarge, "more than %d %s", most, what)
	}
	return nil
}

var wireTypes = [...]protowire.Type{
	varint: protowire.VarintType, fixed32: protowire.Fixed32Type, fixed64: protowire.Fixed64Type,
	name: protowire.BytesType, text: protowire.BytesType, blob: protowire.BytesType, nests: protowire.BytesType,
}

func bad(kind fault.Kind, format string, args ...any) *misplaced {
	return &misplaced{fault: fault.New(kind, format, args...)}
}

func wireError(n int) string {
	if err := protowire.ParseError(n); !errors.Is(err, io.ErrUnexpectedEOF) {
		return err.Error()
	}
	return "the data ends in the middle of it"
}

func fixedSize(kind fieldKind) int {
	if kind == fixed32 {
		return 4
	}
	return 8
}

// varintSize returns the bytes of the varint at the start of b, or a
// protowire error code.
func varintSize(b []byte) int {
	if len(b) > 0 && b[0] < 0x80 {
		return 1
	}
	_, n := protowire.ConsumeVarint(b)
	return n
}

// value is one occurrence of a field in a message that passed the structure
// check. A number is in u, everything length-delimited in b, as a view.
type value struct {
	num  int
	wire protowire.Type
	u    uint64
	b    []byte
}

// cursor walks over the fields of a checked message in file order.
type cursor struct {
	value
	rest []byte
}

func read(message []byte) cursor { return cursor{rest: message} }

// next moves to the next field, and reports whether there is one.
func (c *cursor) next() bool {
	if len(c.rest) == 0 {
		return false
	}
	tag, n := uvarint(c.rest)
	b := c.rest[n:]
	c.value = value{num: int(tag >> 3), wire: protowire.Type(tag & 7)}
	switch c.wire {
	case protowire.VarintType:
		c.u, n = uvarint(b)
	case protowire.Fixed32Type:
		c.u, n = uint64(binary.LittleEndian.Uint32(b)), 4
	case protowire.Fixed64Type:
		c.u, n = binary.LittleEndian.Uint64(b), 8
	default:
		size, skip := uvarint(b)
		n = skip + int(size)
		c.b = b[skip:n:n]
	}
	c.rest = b[n:]
	return true
}

// uvarint reads a checked varint; most have one byte.
func uvarint(b []byte) (uint64, int) {
	if b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// stringField returns the first such field of a checked message, nil if it
// has none.
func stringField(b []byte, num int) []byte {
	for f := read(b); f.next(); {
		if f.num == num {
			return f.b
		}
	}
	return nil
}

// numbers yields the values of a repeated numeric field, packed or not.
func (v value) numbers(kind fieldKind) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if v.wire != protowire.BytesType {
			yield(v.u)
			return
		}
		for b := v.b; len(b) > 0; {
			var u uint64
			n := 8
			switch kind {
			case fixed32:
				u, n = uint64(binary.LittleEndian.Uint32(b)), 4
			case fixed64:
				u = binary.LittleEndian.Uint64(b)
			default:
				u, n = uvarint(b)
			}
			if !yield(u) {
				return
			}
			b = b[n:]
		}
	}
}

// count returns how many values a repeated numeric field holds.
func (v value) count(kind fieldKind) int64 {
	switch {
	case v.wire != protowire.BytesType:
		return 1
	case kind == varint:
		n := int64(0)
		for _, c := range v.b {
			if c < 0x80 {
				n++
			}
		}
		return n
	}
	return int64(len(v.b) / fixedSize(kind))
}

// at returns err with the place where it happened before its message.
func at(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	f := *fault.Of(err)
	f.Message = fmt.Sprintf(format, args...) + ": " + f.Message
	return &f
}
