package release

import (
	"fmt"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
)

// Bounds of a Plan.
const (
	MaxSteps = 20
	MaxText  = 255 // bytes of a name or a reason
)

// Plan is what a release is about, and how it is to go.
type Plan struct {
	Model string `json:"model"`
	Alias string `json:"alias"` // that is to point to the candidate
	// Champion and Candidate are versions by their digests.
	Champion  string `json:"champion"`
	Candidate string `json:"candidate"`
	// Protected aliases are never promoted without approval.
	Protected bool   `json:"protected,omitempty"`
	Steps     []Step `json:"steps"`
	// Requester is the person who begins the release, see access.Principal.
	Requester string `json:"requester,omitempty"`
	// Tenant is the requester's, whose audit log has what the platform does with the release. It
	// is left out where the plan is shown: all tenants see releases.
	Tenant string `json:"tenant,omitempty"`
}

// Step is a share of the traffic, and what must be shown before the next.
type Step struct {
	Name string `json:"name"`
	// Weight is the candidate's share of the units in basis points. It never falls
	// from one step to the next, and is 0 where Shadow is set: then the candidate
	// gets copies of requests and its answers are only compared.
	Weight int  `json:"weight"`
	Shadow bool `json:"shadow,omitempty"`
	// Shadowing says which requests the candidate gets copies of in a shadow step, and which
	// answers agree; nil is shadow.DefaultPolicy.
	Shadowing *shadow.Policy `json:"shadowing,omitempty"`
	// Replay has the step wait for an evaluation. Only the first step may, before the candidate
	// has any request or copy, and its policy asks for nothing else.
	Replay *Replaying      `json:"replay,omitempty"`
	Policy evidence.Policy `json:"policy"`
	// MinDuration is how long the step takes at least, a whole day of traffic say,
	// however soon the numbers pass.
	MinDuration time.Duration `json:"min_duration_ns,omitempty"`
	// MaxDuration is when a step that has come to nothing is paused; 0 means never.
	MaxDuration time.Duration `json:"max_duration_ns,omitempty"`
	// Approval says that another person than the requester has to agree to what follows.
	Approval bool `json:"approval,omitempty"`
}

// Replaying names the evaluation that a step waits for, of the tenant that began the release.
type Replaying struct {
	Tenant     string `json:"tenant,omitempty"` // left out where it is shown: all tenants see releases
	Evaluation string `json:"evaluation"`
}

// ReplayStep returns the first step of a release that begins with an evaluation.
func ReplayStep(r Replaying, g evidence.Replay) Step {
	return Step{Name: "replay", Replay: &r, Policy: evidence.Policy{Alpha: 0.05, MinRequests: 1, Replay: &g}}
}

// Shadows returns Shadowing, or its default.
func (s *Step) Shadows() shadow.Policy {
	if s.Shadowing == nil {
		return shadow.DefaultPolicy()
	}
	return *s.Shadowing
}

// Validate says all that is wrong with the plan, each with a pointer.
func (p Plan) Validate() error {
	var wrong []fault.Detail
	check := func(ok bool, pointer, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fault.Detail{Pointer: pointer, Code: "release_invalid", Message: fmt.Sprintf(format, args...)})
		}
	}
	for _, f := range []struct{ pointer, text string }{{"/model", p.Model}, {"/alias", p.Alias}, {"/champion", p.Champion}, {"/candidate", p.Candidate}} {
		check(f.text != "" && len(f.text) <= MaxText, f.pointer, "the text has %d bytes, expected 1 to %d", len(f.text), MaxText)
	}
	check(p.Champion != p.Candidate, "/candidate", "the candidate is the champion already")
	check(len(p.Steps) > 0 && len(p.Steps) <= MaxSteps, "/steps", "there are %d steps, expected 1 to %d", len(p.Steps), MaxSteps)
	names, weight := map[string]bool{}, 0
	for i, s := range p.Steps[:min(len(p.Steps), MaxSteps)] {
		at := fmt.Sprintf("/steps/%d", i)
		check(s.Name != "" && len(s.Name) <= MaxText && !names[s.Name], at+"/name", "the name %q is empty, too long or there twice", fault.Clip(s.Name, 64))
		check(s.Weight >= weight, at+"/weight", "the weight is %d after %d: a release never goes back on its way", s.Weight, weight)
		check(i == 0 || s.Replay == nil, at, "an evaluation comes first, before any copy of a request")
		s.validate(at, check)
		names[s.Name], weight = true, s.Weight
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "the release has mistakes; the first: %s", wrong[0].Message).WithCode("release_invalid").WithDetails(wrong...)
}

// validate checks the step by itself; at is the pointer to it.
func (s *Step) validate(at string, check func(ok bool, pointer, format string, args ...any)) {
	check((s.Shadow || s.Replay != nil) == (s.Weight == 0) && s.Weight >= 0 && s.Weight < experiment.Total, at+"/weight",
		"the weight is %d, expected 0 for a shadow and else 1 to %d basis points", s.Weight, experiment.Total-1)
	check(s.MinDuration >= 0 && s.MaxDuration >= 0 && (s.MaxDuration == 0 || s.MaxDuration > s.MinDuration), at+"/max_duration_ns",
		"the step takes %s at least and %s at most", s.MinDuration, s.MaxDuration)
	check(s.Shadow || s.Shadowing == nil, at+"/shadow", "the step gives the candidate requests, not copies of them: leave shadow out, or have the weight 0")
	check(!s.Shadow || s.Policy.SampleRatio == nil && s.Policy.Quality == nil && s.Policy.Drift == nil, at+"/policy",
		"a shadow divides no units, nobody labels its answers, and the log keeps no sketches of them: sample_ratio, quality and drift would never pass; agreement compares the answers")
	check((s.Replay != nil) == (s.Policy.Replay != nil), at+"/policy/replay", "only a step that waits for an evaluation is judged by it, and it is by nothing else")
	if s.Replay != nil {
		alone := s.Policy
		alone.Replay = nil
		check(!s.Shadow, at, "an evaluation comes first, before any copy of a request")
		check(alone == evidence.Policy{Alpha: alone.Alpha, MinRequests: alone.MinRequests}, at+"/policy", "a step that waits for an evaluation has no other guardrails: the candidate has no requests")
		check(s.Replay.Tenant != "" && s.Replay.Evaluation != "", at+"/replay", "the step names no evaluation")
	}
	if err := s.Shadows().Validate(); err != nil {
		check(false, at+"/shadow", "%s", fault.Of(err).Message)
	}
	if err := s.Policy.Validate(); err != nil {
		for _, d := range fault.Of(err).Details {
			check(false, at+"/policy"+d.Pointer, "%s", d.Message)
		}
	}
}
