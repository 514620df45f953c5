package rollouthttp

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
)

// Arm is a version that takes part in an experiment.
type Arm struct {
	Name    string `json:"name" minLength:"1" maxLength:"128"`
	Version string `json:"version" minLength:"1" maxLength:"20"`
	Digest  string `json:"artifact_digest,omitempty" readOnly:"true"`
	Weight  int    `json:"weight" minimum:"0" maximum:"10000" doc:"Its share of the units, in basis points; those of all arms add up to 10000."`
}

// Key is where a value of a request is found.
type Key struct {
	From string `json:"from" enum:"tenant,header,attribute,request_id"`
	Name string `json:"name,omitempty" maxLength:"128" doc:"Of the header, or of the attribute in Experiment-Attributes."`
}

// Condition holds where the value is one of in, or is none of them.
type Condition struct {
	Key
	In  []string `json:"in" minItems:"1" maxItems:"1000"`
	Not bool     `json:"not,omitempty"`
}

// Rule gives the requests for which all conditions hold to an arm.
type Rule struct {
	When []Condition `json:"when" minItems:"1" maxItems:"64"`
	Arm  string      `json:"arm,omitempty" maxLength:"128" doc:"Without it such requests are in no experiment."`
}

// Experiment is what is shown of an experiment.
type Experiment struct {
	ID         string     `json:"id" readOnly:"true"`
	Object     string     `json:"object" readOnly:"true"`
	Status     string     `json:"status" enum:"running,stopped" readOnly:"true"`
	Model      string     `json:"model"`
	Alias      string     `json:"alias" doc:"Whose requests are divided."`
	Arms       []Arm      `json:"arms"`
	Unit       []Key      `json:"unit" doc:"Where the unit of a request is: the first that it has. A request without one is a unit of its own."`
	Rules      []Rule     `json:"rules" doc:"Tried in order; the first that holds decides."`
	Shadow     *ShadowArm `json:"shadow,omitempty"`
	Allocation Allocation `json:"allocation"`
	Reason     string     `json:"reason,omitempty" doc:"Why it was stopped."`
	CreatedAt  api.Time   `json:"created_at" readOnly:"true"`
	CreatedBy  string     `json:"created_by" readOnly:"true"`
	UpdatedAt  api.Time   `json:"updated_at" readOnly:"true"`

	Numbers *ExperimentNumbers `json:"numbers,omitempty" readOnly:"true" doc:"Where one experiment is read: what was measured of each arm since it began."`
}

// NewExperiment is what begins an experiment.
type NewExperiment struct {
	Model      string      `json:"model" minLength:"1" maxLength:"255"`
	Alias      string      `json:"alias,omitempty" maxLength:"63" default:"champion" doc:"Whose requests are divided."`
	Arms       []Arm       `json:"arms" minItems:"1" maxItems:"64"`
	Unit       []Key       `json:"unit,omitempty" maxItems:"8" doc:"Where the unit of a request is; the header Experiment-Unit without it."`
	Rules      []Rule      `json:"rules,omitempty" maxItems:"64"`
	Shadow     *ShadowArm  `json:"shadow,omitempty" doc:"A version that gets copies of the first arm's requests, for its answers to be compared; nobody sees them."`
	Allocation *Allocation `json:"allocation,omitempty" doc:"How the arms get their weights; fixed without it."`
}

type newExperimentIn struct{ Body NewExperiment }

type experimentOut struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Experiment
}

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type reweighIn struct {
	ID string `path:"id" maxLength:"64"`
	api.IfMatch
	Body struct {
		Arms []struct {
			Name   string `json:"name" minLength:"1" maxLength:"128"`
			Weight int    `json:"weight" minimum:"0" maximum:"10000"`
		} `json:"arms" minItems:"1" maxItems:"64" doc:"All arms of the experiment. As few units change arms as is possible."`
	}
}

// Because says why somebody does something.
type Because struct {
	Reason string `json:"reason,omitempty" maxLength:"255"`
}

// reason returns the reason, "" where there is none.
func (b *Because) reason() string {
	if b == nil {
		return ""
	}
	return b.Reason
}

type stopIn struct {
	ID string `path:"id" maxLength:"64"`
	// IfMatch is optional: stopping must not wait for another reading.
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is to be stopped. Without it, whatever is there is."`
	Body    *Because
}

// expectation returns what the request asks for, nil for nothing.
func (in *stopIn) expectation() (*rollout.Expectation, error) {
	if in.IfMatch == "" {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	e, err := Conditions{IfMatch: api.IfMatch{IfMatch: in.IfMatch}}.expectation()
	return &e, err
}

type listIn struct {
	Model string `query:"model" maxLength:"255"`
	api.PageQuery
}

type shadowOut struct{ Body *Shadow }

type listExperimentsOut struct{ Body api.Page[Experiment] }

func experimentView(x *rollout.LoadedExperiment) Experiment {
	s := &x.State
	v := Experiment{ID: string(x.Root.ID), Object: "experiment", Status: "running", Model: s.Model, Alias: s.Alias, Reason: s.Reason, Shadow: shadowArmView(s.Shadow), Allocation: allocationView(s), Unit: []Key{}, Rules: []Rule{},
		CreatedAt: api.Time{Time: x.CreatedAt}, CreatedBy: x.CreatedBy, UpdatedAt: api.Time{Time: x.UpdatedAt}}
	if s.Stopped {
		v.Status = "stopped"
	}
	for i, w := range s.Config.Allocation.Arms() {
		v.Arms = append(v.Arms, Arm{w.Name, number(s.Arms[i].Version), s.Arms[i].Digest, w.Weight})
	}
	for _, k := range s.Config.Unit {
		v.Unit = append(v.Unit, Key{string(k.From), k.Name})
	}
	for _, r := range s.Config.Rules {
		rule := Rule{Arm: r.Arm}
		for _, c := range r.When {
			rule.When = append(rule.When, Condition{Key{string(c.From), c.Name}, c.In, c.Not})
		}
		v.Rules = append(v.Rules, rule)
	}
	return v
}

func shownExperiment(x *rollout.LoadedExperiment, err error) (*experimentOut, error) {
	if err != nil {
		return nil, err
	}
	return &experimentOut{Status: http.StatusOK, ETag: api.ETag(x.Root.Version), Body: experimentView(x)}, nil
}

// ask returns what the service takes for what a client sent.
func (n *NewExperiment) ask() (rollout.StartExperiment, error) {
	b, err := n.Allocation.ask()
	c := rollout.StartExperiment{Model: n.Model, Alias: n.Alias, Shadow: n.Shadow.ask(), Bandit: b}
	for _, a := range n.Arms {
		c.Arms = append(c.Arms, rollout.WeightedArm{Name: a.Name, Version: a.Version, Weight: a.Weight})
	}
	for _, k := range n.Unit {
		c.Unit = append(c.Unit, key(k))
	}
	for _, r := range n.Rules {
		rule := experiment.Rule{Arm: r.Arm}
		for _, w := range r.When {
			rule.When = append(rule.When, experiment.Condition{Key: key(w.Key), In: w.In, Not: w.Not})
		}
		c.Rules = append(c.Rules, rule)
	}
	return c, err
}

func key(k Key) experiment.Key { return experiment.Key{From: experiment.Source(k.From), Name: k.Name} }

// newID returns the id of what a request makes: the same one each time that the
// operation is repeated.
func newID[ID ~string](ctx context.Context, prefix string) ID {
	operation, err := uuid.Parse(web.OperationID(ctx))
	if err != nil {
		operation = uuid.Must(uuid.NewV7())
	}
	return aggregate.NewID[ID](prefix, operation)
}

func experiments(a *api.API, b *cqrs.Bus, s *rollout.Service, e Evidence) {
	const path = "/experiments"
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"experiments"}, Permission: permission}
	}
	start := op("start-experiment", http.MethodPost, path, "Divide an alias's requests among versions", rollout.Write)
	start.Status, start.Idempotency = http.StatusCreated, api.KeyOptional
	start.Description = "Answers say which arm they are of, in Experiment-Arm. One experiment or release divides an alias's requests at a time."
	api.Register(a, start, func(ctx context.Context, in *newExperimentIn) (*experimentOut, error) {
		c, err := in.Body.ask()
		if err != nil {
			return nil, err
		}
		out, err := shownExperiment(s.StartExperiment(ctx, newID[rollout.ExperimentID](ctx, rollout.ExperimentPrefix), c))
		if err == nil {
			out.Status, out.Location = http.StatusCreated, a.Prefix()+path+"/"+out.Body.ID
		}
		return out, err
	})
	api.Register(a, op("list-experiments", http.MethodGet, path, "List experiments", rollout.Read), func(ctx context.Context, in *listIn) (*listExperimentsOut, error) {
		page, err := cqrs.Ask(ctx, b, rollout.ListExperiments{Model: in.Model, After: in.Cursor, Limit: in.Limit})
		var views []Experiment
		for i := range page.Items {
			views = append(views, experimentView(&page.Items[i]))
		}
		return &listExperimentsOut{api.NewPage(views, page.Next)}, err
	})
	api.Register(a, op("get-experiment", http.MethodGet, path+"/{id}", "Read an experiment", rollout.Read), func(ctx context.Context, in *idIn) (*experimentOut, error) {
		x, err := cqrs.Ask(ctx, b, rollout.FindExperiment{ID: rollout.ExperimentID(in.ID)})
		out, err := shownExperiment(x, err)
		if err != nil {
			return nil, err
		}
		out.Body.Numbers, err = e.of(ctx, x)
		return out, err
	})
	api.Register(a, op("reweigh-experiment", http.MethodPatch, path+"/{id}", "Give the arms of an experiment other shares", rollout.Write), func(ctx context.Context, in *reweighIn) (*experimentOut, error) {
		expect, err := Conditions{IfMatch: in.IfMatch}.expectation()
		if err != nil {
			return nil, err
		}
		c := rollout.Reweigh{ID: rollout.ExperimentID(in.ID), Expect: expect}
		for _, arm := range in.Body.Arms {
			c.Arms = append(c.Arms, experiment.Arm{Name: arm.Name, Weight: arm.Weight})
		}
		return shownExperiment(cqrs.Send(ctx, b, c))
	})
	shadowed := op("get-experiment-shadow", http.MethodGet, path+"/{id}/shadow", "How the answers of an experiment's shadow differ", rollout.Read)
	shadowed.Description = "Of all nodes, up to the last second."
	api.Register(a, shadowed, func(ctx context.Context, in *idIn) (*shadowOut, error) {
		if _, err := cqrs.Ask(ctx, b, rollout.FindExperiment{ID: rollout.ExperimentID(in.ID)}); err != nil {
			return nil, err
		}
		n, err := cqrs.Ask(ctx, b, rollout.FindShadow{Holder: in.ID})
		if err != nil {
			return nil, err
		}
		return &shadowOut{shadowView(n)}, nil
	})
	stop := op("stop-experiment", http.MethodPost, path+"/{id}/stop", "Stop an experiment", rollout.Write)
	stop.Description = "From then on the version that the alias points to serves all of its requests. Stopping again changes nothing."
	api.Register(a, stop, func(ctx context.Context, in *stopIn) (*experimentOut, error) {
		expect, err := in.expectation()
		if err != nil {
			return nil, err
		}
		return shownExperiment(s.StopExperiment(ctx, rollout.StopExperiment{ID: rollout.ExperimentID(in.ID), Reason: in.Body.reason(), Expect: expect}))
	})
}
