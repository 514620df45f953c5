package evidence

import (
	"math"

	"sluice/internal/platform/fault"
)

// Method is the version of Judge: it is raised when the same numbers may get
// another verdict.
const Method = 3

// Decision is a judgement with everything that it rests on, as it is logged.
type Decision struct {
	Method    int       `json:"method"`
	Policy    Policy    `json:"policy"`
	Measured  Measured  `json:"measured"`
	Judgement Judgement `json:"judgement"`
}

// Decide judges what was measured.
func Decide(p Policy, m Measured) (Decision, error) {
	j, err := Judge(p, m)
	return Decision{Method, p, m, j}, err
}

// Replay judges the same numbers again, and fails with the code
// decision_differs where that comes to something else than was decided.
func (d Decision) Replay() error {
	if d.Method != Method {
		return fault.New(fault.Unsupported, "the decision was made by method %d, this program has method %d", d.Method, Method).WithCode("decision_method")
	}
	again, err := Judge(d.Policy, d.Measured)
	if err != nil {
		return err
	}
	if again.Verdict != d.Judgement.Verdict || len(again.Findings) != len(d.Judgement.Findings) {
		return differs("the verdict was %s, now it is %s", d.Judgement.Verdict, again.Verdict)
	}
	for i, f := range again.Findings {
		was := d.Judgement.Findings[i]
		if f.Guardrail != was.Guardrail || f.Verdict != was.Verdict {
			return differs("%s said %s, now %s says %s", was.Guardrail, was.Verdict, f.Guardrail, f.Verdict)
		}
		if !alike(f.Interval.Low, was.Interval.Low) || !alike(f.Interval.High, was.Interval.High) || f.Limit != was.Limit {
			return differs("%s found %v within %g, now it finds %v within %g", was.Guardrail, was.Interval, was.Limit, f.Interval, f.Limit)
		}
	}
	return nil
}

func differs(format string, args ...any) error {
	return fault.New(fault.Conflict, format+": the log or the numbers were changed", args...).WithCode("decision_differs")
}

// alike allows for what processors round differently.
func alike(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) }
