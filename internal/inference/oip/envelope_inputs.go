package oip

import (
	"bytes"
	"strconv"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

// readInputs reads the inputs. More than the model has are only counted.
func (e *envelope) readInputs(s *tensorjson.Scanner, v *serve.Version) error {
	want, got := v.Accepts(), 0
	err := s.Array(func(i int) error {
		if got++; i >= want {
			return s.Skip()
		}
		if i < cap(e.inputs) { // with the memory of its last use
			e.inputs = e.inputs[:i+1]
		} else {
			e.inputs = append(e.inputs, inputSpec{})
		}
		in := &e.inputs[i]
		if err := e.readInput(s, in); err != nil {
			return within("input "+in.label(i), err)
		}
		return nil
	})
	if err == nil && got > want {
		err = fault.New(fault.Invalid, "expected %d inputs but got %d inputs for model '%s'", want, got, v.Name)
	}
	return err
}

// readInput reads one input, its members in any order.
func (e *envelope) readInput(s *tensorjson.Scanner, in *inputSpec) error {
	var later tensorjson.Scanner // at data that came before its type and shape
	err := s.Object(func(name []byte) (err error) {
		switch string(name) {
		case "name":
			if err = in.seen.once(fieldName, name); err == nil {
				in.name, err = viewText(s)
			}
		case "shape":
			if err = in.seen.once(fieldShape, name); err == nil {
				err = in.readShape(s)
			}
		case "datatype":
			if err = in.seen.once(fieldDatatype, name); err == nil {
				var text string
				if text, err = viewText(s); err == nil {
					in.datatype, err = tensor.Parse(text)
				}
			}
		case "data":
			if err = in.seen.once(fieldData, name); err != nil {
				return err
			}
			if in.seen.has(fieldShape) && in.seen.has(fieldDatatype) {
				return e.readData(s, in)
			}
			later = *s
			err = s.Skip()
		case "parameters":
			if err = in.seen.once(fieldParameters, name); err == nil {
				err = s.Object(func(name []byte) error { return in.readParameter(s, name) })
			}
		default:
			err = s.Skip()
		}
		return err
	})
	if err == nil {
		err = in.complete()
	}
	if err == nil && later.Offset() > 0 {
		err = e.readData(&later, in)
	}
	return err
}

// label names an input in errors, by its name if that is known.
func (in *inputSpec) label(i int) string {
	if in.name != "" {
		return "'" + clip([]byte(in.name)) + "'"
	}
	return strconv.Itoa(i)
}

func (in *inputSpec) readShape(s *tensorjson.Scanner) error {
	err := s.Array(func(i int) error {
		if i == tensor.MaxDims {
			return fault.New(fault.Invalid, "has more than %d dimensions", tensor.MaxDims)
		}
		text := s.Rest()
		extent, err := s.Int()
		if err == nil && extent < 0 {
			err = fault.New(fault.Invalid, "dimension %d is %d; expected 0 or more", i, extent)
		} else if n, bad := tensorjson.Skip(text); err != nil && bad == nil {
			if number := bytes.TrimSpace(text[:n]); len(bytes.Trim(number, "-0123456789")) == 0 {
				err = fault.New(fault.Invalid, "dimension %d is %.40s, which does not fit a 64-bit integer", i, number)
			}
		}
		in.shape = append(in.shape, extent)
		return err
	})
	if err != nil {
		return within("shape", err)
	}
	return nil
}

func (in *inputSpec) readParameter(s *tensorjson.Scanner, name []byte) (err error) {
	switch string(name) {
	case "binary_data_size":
		if err = in.seen.once(fieldBinarySize, name); err == nil {
			in.binarySize, err = s.Uint()
		}
	case "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset":
		err = errSharedMemory
	default:
		err = customParameter(s, name)
	}
	if err != nil {
		return within("parameter '"+clip(name)+"'", err)
	}
	return nil
}

var errSharedMemory = fault.New(fault.Unsupported, "shared memory is not supported: send tensors in the request body")

// complete checks that nothing is missing but the data itself.
func (in *inputSpec) complete() error {
	switch {
	case !in.seen.has(fieldName):
		return fault.New(fault.Invalid, `"name" is missing`)
	case !in.seen.has(fieldShape):
		return fault.New(fault.Invalid, `"shape" is missing`)
	case !in.seen.has(fieldDatatype):
		return fault.New(fault.Invalid, `"datatype" is missing`)
	case in.seen.has(fieldData) == in.seen.has(fieldBinarySize):
		return fault.New(fault.Invalid, `expected exactly one of "data" and, in "parameters", "binary_data_size"`)
	}
	return nil
}

// readData reads an input's data, whose type and shape are known.
func (e *envelope) readData(s *tensorjson.Scanner, in *inputSpec) error {
	room := decodedRoom(in.datatype, in.shape, len(s.Rest()))
	if e.data == nil { // with some for the inputs behind it
		room = max(room, min(int64(len(s.Rest())), firstRoom))
	}
	if err := e.account.Acquire(room); err != nil {
		return err
	}
	if e.data == nil {
		e.data = tensor.GetSlab(int(room))
	}
	s.Peek()
	in.start = len(e.data.B)
	out, n, err := tensorjson.Decode(e.data.B, in.datatype, in.shape, s.Rest())
	if err != nil {
		return err
	}
	e.data.B = out
	in.end = len(out)
	s.Advance(n)
	return nil
}

// decodedRoom bounds the bytes that a tensor takes whose JSON form is within a
// text of so many bytes, where each element has at least two.
func decodedRoom(d tensor.Datatype, shape tensor.Shape, text int) int64 {
	count, err := shape.Elements()
	if err != nil {
		return 0 // to be refused
	}
	count = min(count, int64(text+1)/2)
	if d == tensor.Bytes {
		return 4*count + int64(text)
	}
	return count * int64(d.Size())
}
