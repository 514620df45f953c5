package oipgrpc

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

var errSharedMemory = fault.New(fault.Unsupported, "shared memory is not supported: send the data in the message")

// decodeParams reads the request's parameters: those with a meaning, and
// custom ones, which any model may be given and none here uses.
func (c *call) decodeParams(v *serve.Version, req *serve.Request) error {
	for i := range c.msg.params {
		p := &c.msg.params[i]
		var n uint64
		var err error
		switch key := string(p.key); key {
		case "priority":
			n, err = p.unsigned(math.MaxInt32)
			req.Priority = int(n)
		case "timeout":
			n, err = p.unsigned(math.MaxInt64 / uint64(time.Microsecond))
			req.Timeout = time.Duration(n) * time.Microsecond
		case "sequence_id", "sequence_start", "sequence_end", "sequence_resume":
			if err = p.sequence(&req.Sequence); err == nil && req.Sequence != (serve.Sequence{}) && !v.Stateful() {
				err = fault.New(fault.Invalid, "parameter '%s': model '%s' keeps no sequences", key, v.Name)
			}
		case "max_steps":
			if v.Generative() {
				n, err = p.unsigned(math.MaxInt32)
				req.MaxSteps = int(n)
			} else if p.kind == 0 {
				err = p.mustHaveValue()
			}
		case "triton_enable_empty_final_response":
			// The one answer of a request already is its final one.
			if p.kind != boolParam {
				err = fault.New(fault.Invalid, "parameter '%s' must be a bool_param", key)
			}
		default:
			if bytes.HasPrefix(p.key, []byte("triton_")) {
				err = fault.New(fault.Invalid, "parameter '%s': keys that start with 'triton_' are reserved", clip(p.key))
			} else if p.kind == 0 {
				err = p.mustHaveValue()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isSequence reports whether a parameter of the name is one for sequence.
func isSequence(key []byte) bool {
	switch string(key) {
	case "sequence_id", "sequence_start", "sequence_end", "sequence_resume":
		return true
	}
	return false
}

// sequence reads what the parameter says of the request's sequence.
func (p *parameter) sequence(q *serve.Sequence) error {
	key := string(p.key)
	switch {
	case p.kind == 0:
		return p.mustHaveValue()
	case key == "sequence_id" && p.kind == stringParam:
		if q.ID = ""; len(p.text) > 0 {
			q.ID = serve.TextMark + string(p.text)
		}
		return nil
	case key == "sequence_id":
		limit := uint64(math.MaxUint64)
		if p.kind == int64Param {
			limit = math.MaxInt64
		}
		n, err := p.unsigned(limit)
		if q.ID = ""; n > 0 {
			q.ID = strconv.FormatUint(n, 10)
		}
		return err
	case p.kind != boolParam:
		return fault.New(fault.Invalid, "parameter '%s' must be a bool_param", key)
	}
	flag := map[string]*bool{"sequence_start": &q.Start, "sequence_end": &q.End, "sequence_resume": &q.Resume}[key]
	*flag = p.num != 0
	return nil
}

func (p *parameter) mustHaveValue() error {
	return fault.New(fault.Invalid, "parameter '%s' has no value: set one of its typed fields", clip(p.key))
}

// unsigned returns the parameter as a number from 0 to limit, whichever of the
// two integer fields the client used.
func (p *parameter) unsigned(limit uint64) (uint64, error) {
	if p.kind != int64Param && p.kind != uint64Param {
		return 0, fault.New(fault.Invalid, "parameter '%s' must be an int64_param or uint64_param", p.key)
	}
	if p.num > limit { // negative numbers are, too
		return 0, fault.New(fault.Invalid, "parameter '%s' must be from 0 to %d", p.key, limit)
	}
	return p.num, nil
}
