package oip

import (
	"math"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

// readOutputs reads the wanted outputs.
func (e *envelope) readOutputs(s *tensorjson.Scanner, v *serve.Version) error {
	return s.Array(func(i int) error {
		if i >= len(v.Signature.Outputs) {
			return fault.New(fault.Invalid, "more outputs are asked for than the %d of model '%s'", len(v.Signature.Outputs), v.Name)
		}
		e.outputs = append(e.outputs, outputSpec{})
		out := &e.outputs[i]
		err := out.read(s)
		if err == nil && !out.seen.has(fieldName) {
			err = fault.New(fault.Invalid, `"name" is missing`)
		}
		if err != nil {
			return within("output '"+clip([]byte(out.name))+"'", err)
		}
		return nil
	})
}

func (out *outputSpec) read(s *tensorjson.Scanner) error {
	return s.Object(func(name []byte) (err error) {
		switch string(name) {
		case "name":
			if err = out.seen.once(fieldName, name); err == nil {
				out.name, err = viewText(s)
			}
		case "parameters":
			if err = out.seen.once(fieldParameters, name); err == nil {
				err = s.Object(func(name []byte) error { return out.readParameter(s, name) })
			}
		default:
			err = s.Skip()
		}
		return err
	})
}

func (out *outputSpec) readParameter(s *tensorjson.Scanner, name []byte) (err error) {
	switch string(name) {
	case "binary_data":
		if err = out.seen.once(fieldBinary, name); err == nil {
			out.binary, err = s.Bool()
		}
	case "classification":
		if err = out.seen.once(fieldClassification, name); err == nil {
			err = out.readClasses(s)
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

func (out *outputSpec) readClasses(s *tensorjson.Scanner) error {
	n, err := s.Uint()
	if err == nil && n == 0 {
		err = fault.New(fault.Invalid, "expected a number of classes, at least 1")
	}
	out.classes = int(min(n, math.MaxInt32))
	return err
}
