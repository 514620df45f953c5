package rollout

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/route"
)

// armTally counts the requests of one arm on this node: a route.Meter.
type armTally struct {
	failed  atomic.Int64
	spared  atomic.Int64 // answers whose latency says nothing
	single  atomic.Int64 // requests that were a unit of their own
	buckets [histogram.Size]atomic.Int64
}

// Answered implements route.Meter. Requests that came to the arm by a rule are not compared.
func (a *armTally) Answered(r experiment.Reason, took time.Duration) {
	if r == experiment.ByRule {
		return
	}
	a.buckets[histogram.Bucket(took)].Add(1)
	a.unit(r)
}

// Spared implements route.Meter.
func (a *armTally) Spared(r experiment.Reason) {
	if r == experiment.ByRule {
		return
	}
	a.spared.Add(1) // never a unit of its own: work in spare time is cut as it suits
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
			_ = h.AddBucket(b, count) // fails for other buckets alone
		}
	}
	if n.Requests.N = n.Requests.Hits + h.Count() + a.spared.Load(); h.Count() > 0 {
		n.Latency = h
	}
	return n, a.single.Load()
}

// part is the time in which the arms of a release or experiment had the same weights: a step
// of the release, or a version of the experiment.
type part struct {
	holder string
	number int64
}

// stepOf returns the part of a release's current step.
func stepOf(r *LoadedRelease) part { return part{string(r.Root.ID), int64(r.State.Step)} }

// String names the part.
func (p part) String() string { return p.holder + "/" + strconv.FormatInt(p.number, 10) }

// partTally counts the requests of a part on this node.
type partTally struct {
	part
	weights []experiment.Arm
	arms    []armTally
	shadow  atomic.Pointer[shadowTally] // nil for none
	written int64                       // requests in the store; the writer's
}

// Tallies are what a node counts of experiments and releases. It writes them to the store,
// where the numbers of all nodes add up.
type Tallies struct {
	mu    sync.Mutex
	parts map[part]*partTally
}

func newTallies() *Tallies { return &Tallies{parts: map[part]*partTally{}} }

// of returns the tally of a part, the same one each time. Of the holder's other tallies it
// keeps the latest, whose requests are still under way.
func (t *Tallies) of(p part, weights []experiment.Arm) *partTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parts[p] == nil {
		last := int64(-1)
		for k := range t.parts {
			if k.holder == p.holder {
				last = max(last, k.number)
			}
		}
		for k := range t.parts {
			if k.holder == p.holder && k.number < last {
				delete(t.parts, k)
			}
		}
		t.parts[p] = &partTally{part: p, weights: slices.Clone(weights), arms: make([]armTally, len(weights))}
	}
	return t.parts[p]
}

// meter has the arms of a split be counted.
func (t *partTally) meter(arms []route.Arm) {
	for i := range arms {
		arms[i].Meter = &t.arms[i]
	}
}

// retain forgets the tallies of holders that divide nothing any more.
func (t *Tallies) retain(splits map[string]*split) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.parts {
		if splits[k.holder] == nil {
			delete(t.parts, k)
		}
	}
}

func (t *Tallies) all() []*partTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*partTally
	for _, s := range t.parts {
		all = append(all, s)
	}
	return all
}
