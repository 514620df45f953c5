package rollouthttp

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sluice/internal/inference/release"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

// Step is a share of the requests, and what must be shown before the next.
type Step struct {
	Name        string      `json:"name" minLength:"1" maxLength:"255"`
	Weight      int         `json:"weight" minimum:"0" maximum:"9999" doc:"The candidate's share of the units, in basis points; it never falls from one step to the next. With 0 it gets copies of requests, while there is idle capacity, and its answers are only compared."`
	Shadow      *Shadowing  `json:"shadow,omitempty" doc:"Of steps with the weight 0: which requests the candidate gets copies of, and which answers agree."`
	Replay      *StepReplay `json:"replay,omitempty" readOnly:"true" doc:"Of a first step that waits for an evaluation."`
	Policy      Policy      `json:"policy" doc:"The guardrails, see docs/EXPERIMENTS.md: alpha, min_requests, and at least one of error_rate, latency, quality, agreement, sample_ratio and drift."`
	MinDuration string      `json:"min_duration,omitempty" maxLength:"20" doc:"What the step takes at least, however soon the numbers pass: 10m, 24h."`
	MaxDuration string      `json:"max_duration,omitempty" maxLength:"20" doc:"After which a step that has come to nothing is paused."`
	Approval    bool        `json:"approval,omitempty" doc:"Somebody else than who begins the release has to agree to what follows."`
}

// NewRelease is what begins a release.
type NewRelease struct {
	Model     string     `json:"model" minLength:"1" maxLength:"255"`
	Alias     string     `json:"alias,omitempty" maxLength:"63" default:"champion" doc:"That is to point to the candidate."`
	Candidate string     `json:"candidate" minLength:"1" maxLength:"20" doc:"The number of a version."`
	Steps     []Step     `json:"steps" minItems:"1" maxItems:"20"`
	Replay    *Replaying `json:"replay,omitempty" doc:"Before all steps: the candidate is asked again what was asked before, and has no request until its answers are as alike as this says."`
}

// Release is what is shown of a release.
type Release struct {
	ID        string    `json:"id"`
	Object    string    `json:"object"`
	Status    string    `json:"status" enum:"running,awaiting_approval,paused,promoted,rolled_back"`
	Model     string    `json:"model"`
	Alias     string    `json:"alias"`
	Champion  string    `json:"champion_digest"`
	Candidate string    `json:"candidate_digest"`
	Protected bool      `json:"protected" doc:"The last step needs an approval."`
	Steps     []Step    `json:"steps"`
	Step      int       `json:"step" doc:"The index of the one it is at; their number once promoted."`
	Weight    int       `json:"weight" doc:"The candidate's share of the units now, in basis points."`
	EnteredAt api.Time  `json:"entered_at" doc:"When the step began: its numbers are from then on."`
	Verdict   string    `json:"verdict,omitempty" doc:"The latest of the step: pass, fail or undecided."`
	Reason    string    `json:"reason,omitempty" doc:"Why it was paused or rolled back."`
	CreatedAt api.Time  `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	UpdatedAt api.Time  `json:"updated_at"`
	EndedAt   *api.Time `json:"ended_at,omitempty"`
	Numbers   *Numbers  `json:"numbers,omitempty" doc:"Where one release is read: what was measured of both arms since the step began; of one that is over, what it was last judged by."`
}

// Event is something that happened to a release.
type Event struct {
	Sequence int64    `json:"sequence"`
	At       api.Time `json:"at"`
	By       string   `json:"by"`
	Type     string   `json:"type"`
	Data     any      `json:"data" doc:"Of release.judged: the policy, all numbers, the verdict with each guardrail's interval, and what followed."`
}

// Replay is what came of making all decisions of a release again.
type Replay struct {
	Events  int    `json:"events" doc:"That were gone through."`
	Holds   bool   `json:"holds" doc:"Whether every decision follows from its numbers, and every event from a decision or a person."`
	Differs string `json:"differs,omitempty" doc:"What does not follow."`
	Status  string `json:"status"`
}

type newReleaseIn struct{ Body NewRelease }

type releaseOut struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Release
}

type actIn struct {
	ID string `path:"id" maxLength:"64"`
	api.IfMatch
	Body *Because
}

type stepIn struct {
	ID   string `path:"id" maxLength:"64"`
	Step int    `path:"step" minimum:"0" maximum:"19" doc:"The index of the step."`
}

type numbersOut struct{ Body Numbers }

type listReleasesOut struct{ Body api.Page[Release] }

type eventsIn struct {
	ID     string `path:"id" maxLength:"64"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" maxLength:"20"`
}

type eventsOut struct{ Body api.Page[Event] }

type replayOut struct{ Body Replay }

func releaseView(r *rollout.LoadedRelease) Release {
	s := &r.State
	v := Release{ID: string(r.Root.ID), Object: "release", Status: string(s.Status), Model: s.Plan.Model, Alias: s.Plan.Alias, Champion: s.Plan.Champion, Candidate: s.Plan.Candidate,
		Protected: s.Plan.Protected, Step: s.Step, EnteredAt: api.Time{Time: s.EnteredAt}, Verdict: string(s.Verdict), Reason: s.Reason,
		CreatedAt: api.Time{Time: r.CreatedAt}, CreatedBy: r.CreatedBy, UpdatedAt: api.Time{Time: r.UpdatedAt}}
	for _, arm := range s.Allocation.Arms() {
		if arm.Name == release.Candidate {
			v.Weight = arm.Weight
		}
	}
	for _, step := range s.Plan.Steps {
		shown := Step{Name: step.Name, Weight: step.Weight, Policy: policyView(step.Policy), MinDuration: duration(step.MinDuration), MaxDuration: duration(step.MaxDuration), Approval: step.Approval}
		if w := step.Replay; w != nil {
			shown.Replay = &StepReplay{w.Evaluation}
		}
		if step.Shadow {
			p := shadowingView(step.Shadows())
			shown.Shadow = &p
		}
		v.Steps = append(v.Steps, shown)
	}
	if s.Status.Final() {
		v.EndedAt = &api.Time{Time: r.UpdatedAt}
	}
	return v
}

// duration writes a duration, "" for 0.
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// plan returns what the service takes for what a client sent.
func (n *NewRelease) plan() (rollout.StartRelease, error) {
	c := rollout.StartRelease{Model: n.Model, Alias: n.Alias, Candidate: n.Candidate}
	for i, s := range n.Steps {
		step := release.Step{Name: s.Name, Weight: s.Weight, Shadow: s.Weight == 0, Policy: s.Policy.evidence(), Approval: s.Approval}
		if s.Shadow != nil {
			p := s.Shadow.policy()
			step.Shadowing = &p
		}
		for _, d := range []struct {
			text, name string
			to         *time.Duration
		}{{s.MinDuration, "min_duration", &step.MinDuration}, {s.MaxDuration, "max_duration", &step.MaxDuration}} {
			if d.text == "" {
				continue
			}
			var err error
			if *d.to, err = time.ParseDuration(d.text); err != nil || *d.to < 0 {
				return c, fault.New(fault.Unprocessable, "%s is %q, expected a time such as 10m or 24h", d.name, d.text).WithCode("release_invalid").
					WithDetails(fault.Detail{Pointer: fmt.Sprintf("/steps/%d/%s", i, d.name), Code: "release_invalid", Message: "expected a time such as 10m or 24h"})
			}
		}
		c.Steps = append(c.Steps, step)
	}
	return c, nil
}

// shownRelease answers with a release.
func shownRelease(r *rollout.LoadedRelease, err error) (*releaseOut, error) {
	if err != nil {
		return nil, err
	}
	return &releaseOut{Status: http.StatusOK, ETag: api.ETag(r.Root.Version), Body: releaseView(r)}, nil
}

func releases(a *api.API, b *cqrs.Bus, s *rollout.Service, e Evidence) {
	const path = "/releases"
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"releases"}, Permission: permission}
	}
	start := op("start-release", http.MethodPost, path, "Release a version, step by step", rollout.Write)
	start.Status, start.Idempotency = http.StatusCreated, api.KeyOptional
	start.Description = "Each step gives the candidate a share of the alias's requests, and ends when its policy passes. A guardrail that fails rolls the release back at once."
	api.Register(a, start, func(ctx context.Context, in *newReleaseIn) (*releaseOut, error) {
		c, err := in.Body.plan()
		if err == nil {
			c.Replay, err = in.Body.Replay.start(in.Body.Model)
		}
		if err != nil {
			return nil, err
		}
		out, err := shownRelease(s.StartRelease(ctx, newID[release.ID](ctx, release.Prefix), c))
		if err == nil {
			out.Status, out.Location = http.StatusCreated, a.Prefix()+path+"/"+out.Body.ID
		}
		return out, err
	})
	api.Register(a, op("list-releases", http.MethodGet, path, "List releases", rollout.Read), func(ctx context.Context, in *listIn) (*listReleasesOut, error) {
		page, err := cqrs.Ask(ctx, b, rollout.ListReleases{Model: in.Model, After: in.Cursor, Limit: in.Limit})
		var views []Release
		for i := range page.Items {
			views = append(views, releaseView(&page.Items[i]))
		}
		return &listReleasesOut{api.NewPage(views, page.Next)}, err
	})
	api.Register(a, op("get-release", http.MethodGet, path+"/{id}", "Read a release", rollout.Read), func(ctx context.Context, in *idIn) (*releaseOut, error) {
		r, err := cqrs.Ask(ctx, b, rollout.FindRelease{ID: release.ID(in.ID)})
		out, err := shownRelease(r, err)
		if err != nil {
			return nil, err
		}
		out.Body.Numbers, err = measured(ctx, b, e, r)
		return out, err
	})
	now := op("get-release-numbers", http.MethodGet, path+"/{id}/numbers", "What was measured of both arms since the step began", rollout.Read)
	now.Description = "With intervals that may be watched all the time. What a decision was taken on is among the release's events."
	api.Register(a, now, func(ctx context.Context, in *idIn) (*numbersOut, error) {
		r, err := cqrs.Ask(ctx, b, rollout.FindRelease{ID: release.ID(in.ID)})
		if err != nil {
			return nil, err
		}
		if r.State.Status.Final() {
			return nil, fault.New(fault.Conflict, "the release is %s: its events have the numbers of each decision", r.State.Status).WithCode("release_over")
		}
		n, err := measured(ctx, b, e, r)
		if err != nil {
			return nil, err
		}
		return &numbersOut{*n}, nil
	})
	shadowed := op("get-release-shadow", http.MethodGet, path+"/{id}/steps/{step}/shadow", "How the candidate's answers differ, where a step is a shadow", rollout.Read)
	shadowed.Description = "Of all nodes, up to the last second; also of a step that is over, for 30 days."
	api.Register(a, shadowed, func(ctx context.Context, in *stepIn) (*shadowOut, error) {
		if _, err := cqrs.Ask(ctx, b, rollout.FindRelease{ID: release.ID(in.ID)}); err != nil {
			return nil, err
		}
		n, err := cqrs.Ask(ctx, b, rollout.FindShadow{Holder: in.ID, Step: in.Step})
		if err != nil {
			return nil, err
		}
		return &shadowOut{shadowView(n)}, nil
	})
	for _, act := range []struct {
		action               rollout.Action
		summary, description string
		permission           access.Permission
	}{
		{rollout.Pause, "Pause a release", "It stays at its step, and can still fail.", rollout.Write},
		{rollout.Resume, "Resume a release", "A paused release goes on.", rollout.Write},
		{rollout.RollBack, "Roll a release back", "The champion serves all units again.", rollout.Write},
		{rollout.Agree, "Approve what follows a step", "By somebody else than who has begun the release.", rollout.Approve},
	} {
		o := op(string(act.action)+"-release", http.MethodPost, path+"/{id}/"+string(act.action), act.summary, act.permission)
		o.Description = act.description
		api.Register(a, o, func(ctx context.Context, in *actIn) (*releaseOut, error) {
			expect, err := decided(in.IfMatch, act.action == rollout.Agree)
			if err != nil {
				return nil, err
			}
			return shownRelease(cqrs.Send(ctx, b, rollout.ActOnRelease{ID: release.ID(in.ID), Action: act.action, Reason: in.Body.reason(), Expect: expect}))
		})
	}
	history := op("list-release-events", http.MethodGet, path+"/{id}/events", "What happened to a release, and why", rollout.Read)
	history.Description = "Every decision with the numbers that it was taken on."
	api.Register(a, history, func(ctx context.Context, in *eventsIn) (*eventsOut, error) { return releaseEvents(ctx, b, in) })
	again := op("replay-release", http.MethodGet, path+"/{id}/replay", "Make every decision of a release again", rollout.Read)
	again.Description = "Goes through the history: each judgement must follow from its numbers and the step's policy, and be followed by what follows from it."
	api.Register(a, again, func(ctx context.Context, in *idIn) (*replayOut, error) {
		r, err := cqrs.Ask(ctx, b, rollout.ReplayRelease{ID: release.ID(in.ID)})
		if err != nil {
			return nil, err
		}
		out := &replayOut{Replay{Events: r.Events, Holds: r.Differs == nil, Status: string(r.State.Status)}}
		if r.Differs != nil {
			out.Body.Differs = fault.Of(r.Differs).Message
		}
		return out, nil
	})
}

// releaseEvents answers with a page of what happened to a release.
func releaseEvents(ctx context.Context, b *cqrs.Bus, in *eventsIn) (*eventsOut, error) {
	if _, err := cqrs.Ask(ctx, b, rollout.FindRelease{ID: release.ID(in.ID)}); err != nil {
		return nil, err
	}
	after, err := sequence(in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := cqrs.Ask(ctx, b, rollout.ReleaseEvents{ID: release.ID(in.ID), After: after, Limit: in.Limit})
	var views []Event
	next := ""
	for _, r := range found {
		views = append(views, Event{r.Sequence, api.Time{Time: r.Time}, r.Actor, r.EventType(), shownEvent(r.Event)})
	}
	if len(found) == in.Limit {
		next = strconv.FormatInt(found[len(found)-1].Sequence, 10)
	}
	return &eventsOut{api.NewPage(views, next)}, err
}

// shownEvent returns an event without the names of tenants: all tenants see releases.
func shownEvent(e aggregate.Event) aggregate.Event {
	s, ok := e.(release.Started)
	if !ok {
		return e
	}
	s.Plan.Tenant = ""
	s.Plan.Steps = slices.Clone(s.Plan.Steps)
	for i := range s.Plan.Steps {
		if w := s.Plan.Steps[i].Replay; w != nil {
			s.Plan.Steps[i].Replay = &release.Replaying{Evaluation: w.Evaluation}
		}
	}
	return s
}

// sequence reads the cursor of a history, which is the sequence of an event.
func sequence(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "the cursor is none of this list's").WithCode("invalid_cursor")
	}
	return n, nil
}
