package rollout

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Measure is what was measured of one arm.
type Measure struct {
	Arm     string           `json:"arm"`
	Weight  int              `json:"weight"` // in basis points, while it was measured
	Numbers evidence.Numbers `json:"numbers"`
	Units   int64            `json:"units,omitempty"` // requests that were each a unit of their own
	// Shapes are what logged tensors look like, by what is compared, see record.Shapes.
	Shapes map[string]*drift.Sketch `json:"shapes,omitempty"`
}

// reference is the arm that stands for what the model answered before a release.
const reference = "reference"

// TallyID names what one source knows of a part.
type TallyID string

// Tally is what one source, a node or a prediction log, knows of the arms of a release's
// step, or of an experiment while its weights stayed the same. The tallies of all sources
// add up.
type Tally struct {
	aggregate.Root[TallyID]
	Holder string          `json:"holder"` // the release or experiment
	Part   string          `json:"step"`
	Arms   []Measure       `json:"arms"`
	Shadow *shadow.Numbers `json:"shadow,omitempty"`
	Folded *Folded         `json:"folded,omitempty"` // instead, see there
	Until  time.Time       `json:"until"`            // when it may be forgotten
}

// keepTally is how long tallies are kept after their last change. Decisions have the numbers
// that they were made by; an experiment's are folded at its next allocation, so tallies
// outlive the longest time between two.
const keepTally = MaxEvery + 30*24*time.Hour

var (
	ofPart   = spec.TextField("step", func(t *Tally) string { return t.Part })
	ofHolder = spec.TextField("holder", func(t *Tally) string { return t.Holder })
)

// TallyKind keeps them.
var TallyKind = repo.Kind[TallyID, Tally]{
	Name: "release_tallies", Root: func(t *Tally) *aggregate.Root[TallyID] { return &t.Root }, Columns: []spec.Column[Tally]{ofPart, ofHolder},
	Expires: func(t *Tally) time.Time { return t.Until },
}

// keep stores what a source knows now of a part.
func keep(ctx context.Context, store *repo.Store, p part, source string, arms []Measure, shaded *shadow.Numbers) error {
	now := Tally{Holder: p.holder, Part: p.String(), Arms: arms, Shadow: shaded, Until: store.Now().Add(keepTally)}
	now.ID = TallyID(now.Part + "/" + source)
	return store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		there, err := TallyKind.Exists(ctx, tx, now.ID)
		if err != nil {
			return err
		}
		if !there {
			return TallyKind.Add(ctx, tx, &now)
		}
		_, err = TallyKind.Update(ctx, tx, now.ID, func(t *Tally) error { t.Arms, t.Shadow, t.Until = now.Arms, now.Shadow, now.Until; return nil })
		return err
	})
}

// writeInterval is how often a node writes what it has counted.
const writeInterval = 500 * time.Millisecond

// Write stores what this node has counted, again and again until ctx ends, under a name
// that no other process has. A node that is killed loses what it counted since the last
// time.
func (t *Tallies) Write(ctx context.Context, store *repo.Store, node string, log *slog.Logger) {
	for ctx.Err() == nil {
		pause.For(ctx, writeInterval)
		for _, s := range t.all() {
			if err := s.write(ctx, store, node); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "what was counted of a release or experiment could not be written; that is tried again", "holder", s.holder, "error", err)
			}
		}
	}
}

func (t *partTally) write(ctx context.Context, store *repo.Store, node string) error {
	var arms []Measure
	counted := int64(0)
	for i := range t.arms {
		m := Measure{Arm: t.weights[i].Name, Weight: t.weights[i].Weight}
		m.Numbers, m.Units = t.arms[i].numbers()
		arms, counted = append(arms, m), counted+m.Numbers.Requests.N
	}
	var shaded *shadow.Numbers
	if s := t.shadow.Load(); s != nil {
		shaded = s.snapshot()
		counted += shaded.Total()
	}
	if counted == t.written {
		return nil
	}
	err := keep(ctx, store, t.part, node, arms, shaded)
	if err == nil {
		t.written = counted
	}
	return err
}

// Evidence knows what was measured of releases.
type Evidence interface {
	// Measure returns what was measured since the release's step began.
	Measure(ctx context.Context, r *LoadedRelease) (evidence.Measured, error)
}

// Counted is the evidence that all sources have together.
type Counted struct{ Store *repo.Store }

// Measure implements Evidence.
func (c Counted) Measure(ctx context.Context, r *LoadedRelease) (m evidence.Measured, err error) {
	all, err := c.sum(ctx, ofPart.Eq(stepOf(r).String()), r.State.Allocation.Arms())
	if err != nil {
		return m, err
	}
	for _, a := range all.Arms {
		switch a.Arm {
		case release.Champion:
			m.Baseline = a.Numbers
		case release.Candidate:
			m.Candidate = a.Numbers
		}
	}
	m.Units = all.Units
	if p := r.State.Plan.Steps[r.State.Step].Policy; p.Drift != nil {
		m.Scores, m.Scored = farthest(all.Arms, p)
	}
	if w := r.State.Plan.Steps[r.State.Step].Replay; w != nil {
		m.Replayed, err = c.replayed(ctx, &r.State.Plan, w)
		return m, err
	}
	if r.State.Shadowing() != nil {
		n, err := shadowOf(ctx, c.Store.Read(repo.Scope{}), ofPart.Eq(stepOf(r).String()))
		if err != nil || n == nil {
			return m, err
		}
		measureShadow(&m, n)
	}
	return m, nil
}

// farthest returns how far the candidate is from the reference, see evidence.Policy.Farthest.
func farthest(arms []Measure, p evidence.Policy) (*drift.Distance, string) {
	shapes := map[string]map[string]*drift.Sketch{}
	for _, a := range arms {
		shapes[a.Arm] = a.Shapes
	}
	from := release.Champion
	if p.Drift.Reference != "" {
		from = reference
	}
	return p.Farthest(shapes[from], shapes[release.Candidate])
}

// Sums are what was counted of the arms of a release's step or of an experiment.
type Sums struct {
	Arms []Measure // in the holder's order, of all times together
	// Weightings are the same sums, one for each set of weights. Sums over several sets cannot
	// compare arms: one that had most units while all went well would look better for it.
	Weightings [][]Measure
	Units      []sequential.Ratio // of each arm, for each part
}

// Arms returns what was counted of an experiment.
func (c Counted) Arms(ctx context.Context, x *LoadedExperiment) (Sums, error) {
	return c.sum(ctx, ofHolder.Eq(string(x.Root.ID)), x.State.Config.Allocation.Arms())
}

// scores returns what the logs know of the labels that an experiment is allocated by. It
// leaves out what nodes have counted, of which there is more with each allocation.
func (c Counted) scores(ctx context.Context, x *LoadedExperiment) (Sums, error) {
	return c.sum(ctx, ofPart.Eq(labelled(x).String()), x.State.Config.Allocation.Arms())
}

// sum adds up what is known of arms.
func (c Counted) sum(ctx context.Context, where spec.Spec[Tally], of []experiment.Arm) (out Sums, err error) {
	sums, index := measures(of), map[string]int{}
	for i, a := range of {
		index[a.Name] = i
	}
	weightings := map[string]int{}
	before, ratios := Measure{Arm: reference}, map[string]*sequential.Ratio{}
	var parts []string // in the order found: their evidence multiplies in any order
	for t, err := range TallyKind.All(ctx, c.Store.Read(repo.Scope{}), spec.Query[Tally]{Where: where}) {
		if err != nil {
			return out, err
		}
		w := -1
		if counted(t.Arms) {
			key := fmt.Sprint(ratio(t.Arms, of).Weights)
			if _, known := weightings[key]; !known {
				weightings[key] = len(out.Weightings)
				out.Weightings = append(out.Weightings, measures(of))
			}
			w = weightings[key]
		}
		for _, a := range t.Arms {
			i, known := index[a.Arm]
			if !known {
				if a.Arm == reference {
					before.merge(a.Shapes)
				}
				continue
			}
			sums[i].Numbers.Merge(a.Numbers)
			sums[i].Units += a.Units
			sums[i].merge(a.Shapes)
			if w >= 0 {
				out.Weightings[w][i].Weight = a.Weight
				out.Weightings[w][i].Numbers.Merge(a.Numbers)
			}
			if a.Units == 0 {
				continue
			}
			if ratios[t.Part] == nil {
				ratios[t.Part] = ratio(t.Arms, of)
				parts = append(parts, t.Part)
			}
			ratios[t.Part].Counts[i] += a.Units
		}
	}
	for _, p := range parts {
		out.Units = append(out.Units, *ratios[p])
	}
	if out.Arms = sums; before.Shapes != nil {
		out.Arms = append(out.Arms, before)
	}
	return out, nil
}

// measures are arms of which nothing was counted.
func measures(of []experiment.Arm) []Measure {
	out := make([]Measure, len(of))
	for i, a := range of {
		out[i] = Measure{Arm: a.Name, Weight: a.Weight}
	}
	return out
}

// counted reports whether any arm had a request.
func counted(arms []Measure) bool {
	return slices.ContainsFunc(arms, func(m Measure) bool { return m.Numbers.Requests.N > 0 })
}

// merge adds sketches of more tensors.
func (m *Measure) merge(shapes map[string]*drift.Sketch) {
	for name, shape := range shapes {
		if m.Shapes == nil {
			m.Shapes = map[string]*drift.Sketch{}
		}
		if m.Shapes[name] == nil {
			m.Shapes[name] = new(drift.Sketch)
		}
		m.Shapes[name].Merge(shape)
	}
}

// ratio returns the arms' shares while they were measured, as a ratio without units.
func ratio(arms []Measure, of []experiment.Arm) *sequential.Ratio {
	total, weights := 0, map[string]int{}
	for _, a := range arms {
		weights[a.Arm] = a.Weight
		total += a.Weight
	}
	r := &sequential.Ratio{Counts: make([]int64, len(of)), Weights: make([]float64, len(of))}
	for i, a := range of {
		r.Weights[i] = float64(weights[a.Name]) / float64(cmp.Or(total, experiment.Total))
	}
	return r
}
