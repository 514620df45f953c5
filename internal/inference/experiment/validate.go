package experiment

import (
	"fmt"

	"sluice/internal/platform/fault"
)

// violations are what is wrong with a Config.
type violations []fault.Detail

// maxViolations is how many are told at once.
const maxViolations = 50

func (v *violations) add(wrong bool, pointer, format string, args ...any) {
	if wrong && len(*v) < maxViolations {
		*v = append(*v, fault.Detail{Pointer: pointer, Code: "experiment_invalid", Message: fmt.Sprintf(format, args...)})
	}
}

func (v *violations) key(at string, k Key) {
	switch k.From {
	case Header, Attribute:
		v.add(k.Name == "" || len(k.Name) > MaxText, at+"/name", "the name of the %s has %d bytes, expected 1 to %d", k.From, len(k.Name), MaxText)
	case Tenant, RequestID:
		v.add(k.Name != "", at+"/name", "%s has no name: leave it out", k.From)
	default:
		v.add(true, at+"/from", "%q is no source: use %s, %s, %s or %s", fault.Clip(string(k.From), 32), Tenant, Header, Attribute, RequestID)
	}
}

func (v *violations) rule(at string, r Rule, a *Allocation) {
	v.add(r.Arm != "" && a != nil && a.index(r.Arm) < 0, at+"/arm", "there is no arm %q", fault.Clip(r.Arm, 64))
	v.add(len(r.When) == 0 || len(r.When) > MaxRules, at+"/when", "a rule has 1 to %d conditions, this one has %d", MaxRules, len(r.When))
	for i, c := range r.When {
		at := fmt.Sprintf("%s/when/%d", at, i)
		v.key(at, c.Key)
		v.add(len(c.In) == 0 || len(c.In) > MaxValues, at+"/in", "a condition has 1 to %d values, this one has %d", MaxValues, len(c.In))
		for _, text := range c.In {
			v.add(len(text) > MaxText, at+"/in", "a value has %d bytes, at most %d are allowed", len(text), MaxText)
		}
	}
}
