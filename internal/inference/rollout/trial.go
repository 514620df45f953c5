package rollout

import (
	"net/textproto"
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/experiment/bandit"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// ExperimentID is the id of an experiment, exp_….
type ExperimentID string

// ExperimentPrefix is how ids of experiments begin.
const ExperimentPrefix = "exp"

// isExperiment reports whether a holder's id is that of an experiment.
func isExperiment(id string) bool { return strings.HasPrefix(id, ExperimentPrefix+"_") }

// Arm is a version that takes part in an experiment.
type Arm struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Digest  string `json:"digest"`
}

// Experiment is how an alias's requests are divided, as its events have made it.
type Experiment struct {
	Model  string            `json:"model"`
	Alias  string            `json:"alias"`
	Config experiment.Config `json:"config"`
	Arms   []Arm             `json:"arms"` // as the allocation has them
	Shadow *ShadowArm        `json:"shadow,omitempty"`
	// Bandit reweighs the arms; nil leaves that to people. Decision is its latest, and
	// AllocatedAt when the arms got their weights.
	Bandit      *Bandit          `json:"bandit,omitempty"`
	Decision    *bandit.Decision `json:"decision,omitempty"`
	AllocatedAt time.Time        `json:"allocated_at,omitzero"`
	// Tenant began it: its audit log has what the platform does with it.
	Tenant  string `json:"tenant,omitempty"`
	Stopped bool   `json:"stopped,omitempty"`
	Reason  string `json:"reason,omitempty"` // why it was stopped
}

// ShadowArm is a version that gets copies of the first arm's requests, for its
// answers to be compared.
type ShadowArm struct {
	Arm
	Policy shadow.Policy `json:"policy"`
}

// ExperimentStarted says how an alias's requests are divided.
type ExperimentStarted struct {
	Model  string            `json:"model"`
	Alias  string            `json:"alias"`
	Config experiment.Config `json:"config"`
	Arms   []Arm             `json:"arms"`
	Shadow *ShadowArm        `json:"shadow,omitempty"`
	Bandit *Bandit           `json:"bandit,omitempty"`
	Tenant string            `json:"tenant,omitempty"` // see Experiment
}

// ExperimentReweighted says that arms have other shares.
type ExperimentReweighted struct {
	Allocation *experiment.Allocation `json:"allocation"`
	// Decision is the bandit's, with all that it follows from; nil where a person has
	// reweighed the arms.
	Decision *bandit.Decision `json:"decision,omitempty"`
}

// ExperimentStopped says that the alias's requests are divided no more.
type ExperimentStopped struct {
	Reason string `json:"reason,omitempty"`
}

// EventType implements aggregate.Event.
func (ExperimentStarted) EventType() string { return "experiment.started" }

// EventType implements aggregate.Event.
func (ExperimentReweighted) EventType() string { return "experiment.reweighted" }

// EventType implements aggregate.Event.
func (ExperimentStopped) EventType() string { return "experiment.stopped" }

// Experiments keeps them.
var Experiments = eventstore.Source[ExperimentID, Experiment]{
	Name: "experiments", Codec: experimentCodec(), Apply: applyExperiment, Form: 1,
	Columns: []spec.Column[Experiment]{experimentModel, experimentStopped},
}

var (
	experimentModel   = spec.TextField("model", func(e *Experiment) string { return e.Model })
	experimentStopped = spec.BoolField("stopped", func(e *Experiment) bool { return e.Stopped })
)

func experimentCodec() *eventstore.Codec {
	c := eventstore.NewCodec()
	eventstore.Register[ExperimentStarted](c)
	eventstore.Register[ExperimentReweighted](c)
	eventstore.Register[ExperimentStopped](c)
	return c
}

// applyExperiment changes the state by what has happened.
func applyExperiment(x *Experiment, e aggregate.Event, at time.Time) {
	switch e := e.(type) {
	case ExperimentStarted:
		x.Model, x.Alias, x.Config, x.Arms, x.Shadow = e.Model, e.Alias, e.Config, e.Arms, e.Shadow
		x.Bandit, x.Tenant, x.AllocatedAt = e.Bandit, e.Tenant, at
	case ExperimentReweighted:
		x.Config.Allocation, x.Decision, x.AllocatedAt = e.Allocation, e.Decision, at
	case ExperimentStopped:
		x.Stopped, x.Reason = true, e.Reason
	}
}

// WeightedArm is an arm that a new experiment should have.
type WeightedArm struct {
	Name    string
	Version string
	Weight  int // in basis points
}

// WeightlessArm is a shadow that a new experiment should have.
type WeightlessArm struct {
	Name    string
	Version string
	Policy  shadow.Policy
}

// design makes an experiment of what was asked for; id is its salt.
func design(catalog Catalog, id ExperimentID, c StartExperiment) (*ExperimentStarted, error) {
	if err := checkName(c.Alias); err != nil {
		return nil, err
	}
	e := &ExperimentStarted{Model: c.Model, Alias: c.Alias, Config: experiment.Config{Salt: string(id), Unit: canonical(c.Unit), Rules: slices.Clone(c.Rules)}}
	for i := range e.Config.Rules {
		when := slices.Clone(e.Config.Rules[i].When)
		for j := range when {
			when[j].Key = canonical([]experiment.Key{when[j].Key})[0]
		}
		e.Config.Rules[i].When = when
	}
	var first Artifact
	for i, arm := range c.Arms {
		a, err := catalog.Find(c.Model, arm.Version)
		if err != nil {
			return nil, missing(c.Model, arm.Version, err)
		}
		if i == 0 {
			first = a
		}
		if err := alike(c.Model, first, a); err != nil {
			return nil, err
		}
		e.Arms = append(e.Arms, Arm{arm.Name, a.Version, a.Digest})
	}
	var err error
	if e.Config.Allocation, err = experiment.Allocate(weights(c.Arms)...); err != nil {
		return nil, err
	}
	if e.Bandit = c.Bandit; c.Bandit != nil {
		if err := c.Bandit.validate(len(c.Arms)); err != nil {
			return nil, err
		}
	}
	if c.Shadow != nil {
		if e.Shadow, err = shade(catalog, c.Model, first, c.Shadow); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(c.Arms, func(a WeightedArm) bool { return a.Name == c.Shadow.Name }) {
			return nil, fault.New(fault.Unprocessable, "the shadow %q is named as an arm: give it a name of its own", fault.Clip(c.Shadow.Name, 64)).WithCode("experiment_arms")
		}
	}
	return e, e.Config.Validate()
}

// shade makes the shadow that was asked for; first is the version of the first arm, with
// whose answers the shadow's are compared.
func shade(catalog Catalog, model string, first Artifact, w *WeightlessArm) (*ShadowArm, error) {
	a, err := catalog.Find(model, w.Version)
	if err != nil {
		return nil, missing(model, w.Version, err)
	}
	if err := alike(model, first, a); err != nil {
		return nil, err
	}
	if err := shadeable(model, a); err != nil {
		return nil, err
	}
	if a.Digest == first.Digest {
		return nil, fault.New(fault.Unprocessable, "the shadow is the file of the first arm, with whose answers its own are compared").WithCode("experiment_arms")
	}
	return &ShadowArm{Arm{w.Name, a.Version, a.Digest}, w.Policy}, w.Policy.Validate()
}

// shadeable refuses a graph as shadow: its models would compete with online requests.
func shadeable(name string, a Artifact) error {
	if a.Graph {
		return fault.New(fault.Unprocessable, "version %d of model '%s' is a graph, whose models do not run on idle capacity alone: shadow by its models, or begin with a small weight", a.Version, fault.Clip(name, 64)).WithCode("shadow_graph")
	}
	return nil
}

// canonical writes the names of headers as HTTP does.
func canonical(keys []experiment.Key) []experiment.Key {
	keys = slices.Clone(keys)
	for i := range keys {
		if keys[i].From == experiment.Header {
			keys[i].Name = textproto.CanonicalMIMEHeaderKey(keys[i].Name)
		}
	}
	return keys
}

func weights(arms []WeightedArm) []experiment.Arm {
	var out []experiment.Arm
	for _, a := range arms {
		out = append(out, experiment.Arm{Name: a.Name, Weight: a.Weight})
	}
	return out
}

// alike refuses to divide requests among versions that do not take and give the same
// tensors, or whose answers depend on earlier requests.
func alike(name string, a, b Artifact) error {
	for _, x := range []Artifact{a, b} {
		if x.Steps {
			return fault.New(fault.Unprocessable, "version %d of model '%s' keeps state, or answers step by step: such requests are not divided among versions", x.Version, fault.Clip(name, 64)).WithCode("arms_stateful")
		}
	}
	if !a.Signature.Same(&b.Signature) {
		return fault.New(fault.Unprocessable, "versions %d and %d of model '%s' do not take and give the same tensors: a client of one could not be served by the other", a.Version, b.Version, fault.Clip(name, 64)).WithCode("arms_differ")
	}
	return nil
}

// reweigh gives the arms other shares, by name.
func (x *Experiment) reweigh(arms []experiment.Arm) ([]aggregate.Event, error) {
	switch {
	case x.Stopped:
		return nil, errStopped
	case x.Bandit != nil:
		return nil, fault.New(fault.Conflict, "the arms of this experiment are allocated by what was observed of them: stop it, and begin another with weights of your own").WithCode("experiment_allocated")
	}
	now := x.Config.Allocation.Arms()
	if len(arms) != len(now) || slices.ContainsFunc(arms, func(a experiment.Arm) bool {
		return !slices.ContainsFunc(now, func(b experiment.Arm) bool { return b.Name == a.Name })
	}) {
		return nil, fault.New(fault.Unprocessable, "name each of the %d arms of the experiment once: arms do not change while it lives, only weights", len(now)).WithCode("experiment_arms")
	}
	ordered := slices.Clone(now) // in the order of Experiment.Arms
	for i := range ordered {
		ordered[i].Weight = arms[slices.IndexFunc(arms, func(a experiment.Arm) bool { return a.Name == ordered[i].Name })].Weight
	}
	if slices.Equal(ordered, now) {
		return nil, nil
	}
	next, err := x.Config.Allocation.Reweight(ordered...)
	return []aggregate.Event{ExperimentReweighted{Allocation: next}}, err
}

var errStopped = fault.New(fault.Conflict, "the experiment has been stopped: begin another").WithCode("experiment_stopped")

// stop ends the experiment; ending it again changes nothing.
func (x *Experiment) stop(reason string) ([]aggregate.Event, error) {
	if x.Stopped {
		return nil, nil
	}
	if len(reason) > MaxReason {
		return nil, fault.New(fault.Unprocessable, "the reason has %d bytes, at most %d are allowed", len(reason), MaxReason).WithCode("reason_too_long")
	}
	return []aggregate.Event{ExperimentStopped{reason}}, nil
}
