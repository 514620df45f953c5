package rollout

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// armTally counts the requests of one arm on this node: a route.Meter.
type armTally struct {
	failed  atomic.Int64
	single  atomic.Int64 // requests that were a unit of their own
	buckets [histogram.Size]atomic.Int64
}

// Answered implements route.Meter. Whom a rule has chosen is not compared.
func (a *armTally) Answered(r experiment.Reason, took time.Duration) {
	if r == experiment.ByRule {
		return
	}
	a.buckets[histogram.Bucket(took)].Add(1)
	a.unit(r)
}

// Failed implements route.Meter.
func (a *armTally) Failed(r experiment.Reason) {
	if r == experiment.ByRule {
		return
	}
	a.failed.Add(1)
	a.unit(r)
}

func (a *armTally) unit(r experiment.Reason) {
	if r == experiment.ByRequest {
		a.single.Add(1)
	}
}

// numbers returns what was counted so far.
func (a *armTally) numbers() (n evidence.Numbers, single int64) {
	n.Requests.Hits = a.failed.Load()
	h := new(histogram.Histogram)
	for b := range a.buckets {
		if count := a.buckets[b].Load(); count > 0 {
			_ = h.AddBucket(b, count) // it is one
		}
	}
	if n.Requests.N = n.Requests.Hits + h.Count(); h.Count() > 0 {
		n.Latency = h
	}
	return n, a.single.Load()
}

// stepTally counts the requests of a release's step on this node.
type stepTally struct {
	release release.ID
	step    int
	arms    [2]armTally // champion, candidate
	written int64       // requests in the store; the writer's
}

// Tallies are what a node counts of the releases that are under way, and writes to
// the store, where the numbers of all nodes add up.
type Tallies struct {
	mu    sync.Mutex
	steps map[string]*stepTally
}

func newTallies() *Tallies { return &Tallies{steps: map[string]*stepTally{}} }

func stepKey(id release.ID, step int) string { return string(id) + "/" + strconv.Itoa(step) }

// of returns the tally of a step, the same one each time.
func (t *Tallies) of(id release.ID, step int) *stepTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := stepKey(id, step)
	if t.steps[k] == nil {
		t.steps[k] = &stepTally{release: id, step: step}
	}
	return t.steps[k]
}

// retain forgets releases that hold nothing any more.
func (t *Tallies) retain(splits map[string]*split) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range t.steps {
		if splits[string(s.release)] == nil {
			delete(t.steps, k)
		}
	}
}

func (t *Tallies) all() []*stepTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*stepTally
	for _, s := range t.steps {
		all = append(all, s)
	}
	return all
}

// TallyID names what a node has counted of a step.
type TallyID string

// Tally is what a node has counted of a release's step.
type Tally struct {
	aggregate.Root[TallyID]
	Step      string           `json:"step"` // the release and the index of the step
	Champion  evidence.Numbers `json:"champion"`
	Candidate evidence.Numbers `json:"candidate"`
	Units     [2]int64         `json:"units"` // requests that were a unit of their own, of each arm
	Until     time.Time        `json:"until"` // when it may be forgotten
}

// keepTally is for how long tallies are kept after they have last grown: the
// decisions that were made of them have the numbers.
const keepTally = 30 * 24 * time.Hour

var ofStep = spec.TextField("step", func(t *Tally) string { return t.Step })

// TallyKind keeps them.
var TallyKind = repo.Kind[TallyID, Tally]{
	Name: "release_tallies", Root: func(t *Tally) *aggregate.Root[TallyID] { return &t.Root }, Columns: []spec.Column[Tally]{ofStep},
	Expires: func(t *Tally) time.Time { return t.Until },
}

// writeInterval is how often a node writes what it has counted.
const writeInterval = 500 * time.Millisecond

// Write writes what this node counts to the store until ctx ends, under a name that
// no other process has. A node that is killed loses what it has counted since.
func (t *Tallies) Write(ctx context.Context, store *repo.Store, node string, log *slog.Logger) {
	for ctx.Err() == nil {
		pause.For(ctx, writeInterval)
		for _, s := range t.all() {
			if err := s.write(ctx, store, node); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "what was counted of a release could not be written; that is tried again", "release", string(s.release), "error", err)
			}
		}
	}
}

func (s *stepTally) write(ctx context.Context, store *repo.Store, node string) error {
	now := Tally{Step: stepKey(s.release, s.step), Until: store.Now().Add(keepTally)}
	now.ID = TallyID(now.Step + "/" + node)
	now.Champion, now.Units[0] = s.arms[0].numbers()
	now.Candidate, now.Units[1] = s.arms[1].numbers()
	counted := now.Champion.Requests.N + now.Candidate.Requests.N
	if counted == s.written {
		return nil
	}
	err := store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		there, err := TallyKind.Exists(ctx, tx, now.ID)
		if err != nil {
			return err
		}
		if !there {
			return TallyKind.Add(ctx, tx, &now)
		}
		_, err = TallyKind.Update(ctx, tx, now.ID, func(t *Tally) error {
			t.Champion, t.Candidate, t.Units, t.Until = now.Champion, now.Candidate, now.Units, now.Until
			return nil
		})
		return err
	})
	if err == nil {
		s.written = counted
	}
	return err
}

// Evidence knows what was measured of a release's arms since its step began.
type Evidence interface {
	Measure(ctx context.Context, r *LoadedRelease) (evidence.Measured, error)
}

// Counted is the evidence that all nodes have counted.
type Counted struct{ Store *repo.Store }

// Measure implements Evidence.
func (c Counted) Measure(ctx context.Context, r *LoadedRelease) (m evidence.Measured, err error) {
	units := make([]int64, 2)
	step := stepKey(r.Root.ID, r.State.Step)
	for t, err := range TallyKind.All(ctx, c.Store.Read(repo.Scope{}), spec.Query[Tally]{Where: ofStep.Eq(step)}) {
		if err != nil {
			return m, err
		}
		m.Baseline.Merge(t.Champion)
		m.Candidate.Merge(t.Candidate)
		units[0], units[1] = units[0]+t.Units[0], units[1]+t.Units[1]
	}
	weight := float64(r.State.Plan.Steps[r.State.Step].Weight) / experiment.Total
	if units[0]+units[1] > 0 && weight > 0 {
		m.Units = []sequential.Ratio{{Counts: units, Weights: []float64{1 - weight, weight}}}
	}
	return m, nil
}
