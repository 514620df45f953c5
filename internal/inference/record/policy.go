package record

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// PolicyParameter is the parameter of a model's configuration that holds its
// ContentPolicy as JSON. Without it the log keeps none of the model's tensors.
const PolicyParameter = "sluice.log"

// ContentPolicy says which inputs and outputs of a model's predictions the log keeps,
// for whom and for how long. It is immutable.
type ContentPolicy struct {
	Sample  float64     // share of the predictions, above 0 and up to 1
	Tenants []string    // whose predictions are kept; "*" stands for all. Empty keeps none
	Inputs  []string    // by name; nil for all
	Outputs []string    // the same
	Redact  []Redaction // applied in order
	// MaxBytes is how large the tensors of one prediction may be, by default 64 KiB: of a
	// larger one none is kept.
	MaxBytes int
	Keep     time.Duration // by default 72 h

	most     uint64 // of the random numbers, up to which a prediction is sampled
	everyone bool
}

// Redaction is what is done to a tensor before it is kept.
type Redaction struct {
	Tensor string `json:"tensor"`
	// Columns are indices along the last dimension, of tensors with two or more; all
	// elements without them.
	Columns []int  `json:"columns,omitempty"`
	Do      string `json:"do"`
}

// What a Redaction does: Drop leaves the tensor out, Mask replaces elements by zeros or empty
// texts, and Hash replaces texts by hashes with the tenant's key.
const (
	Drop = "drop"
	Mask = "mask"
	Hash = "hash"
)

// Bounds of a ContentPolicy.
const (
	maxPolicyText    = 16 << 10
	maxPolicyBytes   = 1 << 20
	maxPolicyKeep    = 400 * 24 * time.Hour
	usualPolicyBytes = 64 << 10
	usualPolicyKeep  = 72 * time.Hour
)

type policyJSON struct {
	Sample   float64     `json:"sample"`
	Tenants  []string    `json:"tenants"`
	Inputs   []string    `json:"inputs"`
	Outputs  []string    `json:"outputs"`
	Redact   []Redaction `json:"redact"`
	MaxBytes int         `json:"max_bytes"`
	Keep     string      `json:"keep"`
}

// ParseContentPolicy reads a policy. A wrong one is fault.Invalid, with the code
// log_policy_invalid.
func ParseContentPolicy(text string) (*ContentPolicy, error) {
	var in policyJSON
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if len(text) > maxPolicyText {
		return nil, wrongPolicy("it has %d bytes, at most %d are possible", len(text), maxPolicyText)
	}
	if err := d.Decode(&in); err != nil || d.More() {
		return nil, wrongPolicy("expected one JSON object such as {\"sample\":0.1,\"tenants\":[\"*\"]}, got %.60q: %v", text, err)
	}
	p := &ContentPolicy{Sample: in.Sample, Tenants: in.Tenants, Inputs: in.Inputs, Outputs: in.Outputs, Redact: in.Redact, MaxBytes: in.MaxBytes}
	if p.MaxBytes == 0 {
		p.MaxBytes = usualPolicyBytes
	}
	if p.Keep = usualPolicyKeep; in.Keep != "" {
		var err error
		if p.Keep, err = time.ParseDuration(in.Keep); err != nil {
			return nil, wrongPolicy("keep is %.20q, expected a time such as 72h", in.Keep)
		}
	}
	switch {
	case !(p.Sample > 0 && p.Sample <= 1):
		return nil, wrongPolicy("sample is %g, expected more than 0 and at most 1", p.Sample)
	case p.MaxBytes < 1 || p.MaxBytes > maxPolicyBytes:
		return nil, wrongPolicy("max_bytes is %d, expected 1 to %d", p.MaxBytes, maxPolicyBytes)
	case p.Keep < time.Minute || p.Keep > maxPolicyKeep:
		return nil, wrongPolicy("keep is %s, expected 1m to %s", p.Keep, maxPolicyKeep)
	}
	for _, r := range p.Redact {
		if r.Do != Drop && r.Do != Mask && r.Do != Hash {
			return nil, wrongPolicy("do is %.20q, expected drop, mask or hash", r.Do)
		}
		if r.Do == Drop && len(r.Columns) > 0 {
			return nil, wrongPolicy("columns of %.60q cannot be dropped, since its shape would change: mask them", r.Tensor)
		}
	}
	p.most, p.everyone = uint64(p.Sample*(1<<63))<<1, slices.Contains(p.Tenants, "*")
	if p.Sample == 1 {
		p.most = math.MaxUint64
	}
	return p, nil
}

func wrongPolicy(format string, args ...any) error {
	return fault.New(fault.Invalid, "the parameter "+PolicyParameter+" is not a valid policy: "+format, args...).WithCode("log_policy_invalid")
}

// Fit completes the policy for a model of these inputs and outputs, of which it reads names,
// types and shapes, and refuses one that does not fit: a rule for a misspelt name would
// protect nothing. It is called before the policy is used.
func (p *ContentPolicy) Fit(inputs, outputs []tensor.Tensor) error {
	known := slices.Concat(inputs, outputs)
	for _, list := range []struct {
		names []string
		of    []tensor.Tensor
	}{{p.Inputs, inputs}, {p.Outputs, outputs}} {
		for _, name := range list.names {
			if !slices.ContainsFunc(list.of, func(t tensor.Tensor) bool { return t.Name == name }) {
				return wrongPolicy("the model has no tensor %.60q there", name)
			}
		}
	}
	for _, r := range p.Redact {
		i := slices.IndexFunc(known, func(t tensor.Tensor) bool { return t.Name == r.Tensor })
		if i < 0 {
			return wrongPolicy("the model has no tensor %.60q to %s", r.Tensor, r.Do)
		}
		t := &known[i]
		if r.Do == Hash && t.Datatype != tensor.Bytes {
			return wrongPolicy("%.60q is of %s, and only BYTES can be hashed: mask or drop it", r.Tensor, t.Datatype)
		}
		for _, c := range r.Columns {
			if len(t.Shape) < 2 || c < 0 || t.Shape[len(t.Shape)-1] >= 0 && int64(c) >= t.Shape[len(t.Shape)-1] {
				return wrongPolicy("%.60q of shape %s has no column %d", r.Tensor, t.Shape, c)
			}
		}
	}
	if p.Inputs == nil {
		p.Inputs = names(inputs)
	}
	if p.Outputs == nil {
		p.Outputs = names(outputs)
	}
	return nil
}

func names(tensors []tensor.Tensor) []string {
	out := []string{}
	for i := range tensors {
		out = append(out, tensors[i].Name)
	}
	return out
}

// Takes says whether a prediction of a tenant is to be kept, by chance. It does not
// allocate.
func (p *ContentPolicy) Takes(tenant string) bool {
	return rand.Uint64() <= p.most && (p.everyone || slices.Contains(p.Tenants, tenant))
}

// wants says whether tensors of a name are kept.
func wants(names []string, name string) bool { return names == nil || slices.Contains(names, name) }
