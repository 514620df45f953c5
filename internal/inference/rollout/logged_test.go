package rollout

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/platform/cqrs"
)

// book is a prediction log of one experiment: labels with the times of their
// predictions.
type book struct {
	name string
	fail error

	mu     sync.Mutex
	asked  record.Window
	scores record.Scores // that count
	others record.Scores // that do not

	windows      []record.Filter
	shapes, past record.Shapes
}

func (b *book) Identity(context.Context) (string, error) { return b.name, nil }

func (b *book) Scores(_ context.Context, w record.Window) (record.Scores, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = w
	if w.Within != nil {
		return b.scores, b.fail
	}
	all := record.Scores{}
	for _, some := range []record.Scores{b.scores, b.others} {
		for arm, names := range some {
			for name, m := range names {
				all.Add(arm, name, m)
			}
		}
	}
	return all, b.fail
}

func (b *book) Shapes(_ context.Context, f record.Filter) (record.Shapes, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.windows = append(b.windows, f)
	if f.Model != "" {
		return b.past, b.fail
	}
	return b.shapes, b.fail
}

// says has the book know n labels of both arms, of which the candidate's have a mean.
func (b *book) says(name string, n int64, champion, candidate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	moments := func(mean float64) sequential.Moments {
		return sequential.Moments{N: n, Mean: mean, M2: mean * (1 - mean) * float64(n)}
	}
	b.scores = record.Scores{release.Champion: {name: moments(champion)}, release.Candidate: {name: moments(candidate)}}
}

// newLogged is a stage whose release asks for quality, judged by what was counted, with
// a reader of each log.
func newLogged(t *testing.T, logs ...*book) (*stage, []*Reader) {
	t.Helper()
	return newAsking(t, evidence.Policy{Alpha: 0.05, MinRequests: 100, Quality: &evidence.Quality{Label: "right", Worse: 0.2, MinLabels: 100}}, logs...)
}

// newAsking is newLogged with another policy.
func newAsking(t *testing.T, p evidence.Policy, logs ...*book) (*stage, []*Reader) {
	t.Helper()
	s := newStage(t, false)
	if _, err := s.service.StartRelease(as("key_a"), s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: []release.Step{{Name: "a", Weight: 1000, Policy: p}}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.judge, err = NewDriver(s.store, s.bus, Counted{s.store}, DriverConfig{}); err != nil {
		t.Fatal(err)
	}
	var readers []*Reader
	for _, log := range logs {
		r, err := NewReader(s.store, log, TurnConfig{})
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	tally := newTallies().of(part{string(s.id), 0}, weightsOf(1000))
	for range 1000 {
		tally.arms[0].Answered(experiment.ByUnit, time.Millisecond)
		tally.arms[1].Spared(experiment.ByUnit)
	}
	if err := tally.write(t.Context(), s.store, "node"); err != nil {
		t.Fatal(err)
	}
	return s, readers
}

func (s *stage) read(t *testing.T, readers []*Reader, logs []*book) release.State {
	t.Helper()
	for i, r := range readers {
		r.Round(t.Context(), logs[i].name)
	}
	state, _, _ := s.round(t, nothing)
	return state
}

// Labels let a release pass or fail, those of all logs together, as they are when it is
// judged: late ones and corrections count. Without any nothing happens.
func TestQualityOfReleases(t *testing.T) {
	for name, c := range map[string]struct {
		candidate float64
		status    release.Status
	}{"as good": {0.9, release.Promoted}, "worse": {0.3, release.RolledBack}} {
		t.Run(name, func(t *testing.T) {
			logs := []*book{{name: "one"}, {name: "two"}}
			s, readers := newLogged(t, logs...)
			if r := s.read(t, readers, logs); r.Status != release.Running || r.Verdict != evidence.Undecided {
				t.Fatalf("without labels: %s, %s", r.Status, r.Verdict)
			}
			logs[0].says("another", 5000, c.candidate, c.candidate)
			if r := s.read(t, readers, logs); r.Status != release.Running {
				t.Fatalf("by labels of another name: %s", r.Status)
			}
			logs[0].says("right", 2000, 0.9, 0.5)
			logs[0].says("right", 60, 0.9, 0.5) // most were taken back
			if r := s.read(t, readers, logs); r.Status != release.Running {
				t.Fatalf("by too few labels: %s", r.Status)
			}
			logs[0].says("right", 2000, 0.9, c.candidate)
			logs[0].others = record.Scores{release.Candidate: {"right": {N: 7, Mean: -1e12}}, release.Champion: {"wrong": {N: 1}}}
			logs[1].says("right", 1000, 0.9, c.candidate)
			if r := s.read(t, readers, logs); r.Status != c.status {
				t.Fatalf("%s: %s", r.Status, r.Reason)
			}
			s.replays(t)
			last, err := cqrs.Ask(as("key_a"), s.bus, LastDecision{ID: s.id})
			if err != nil || last == nil {
				t.Fatalf("%+v, %v", last, err)
			}
			m := last.Decision.Measured
			if b, q := m.Baseline, m.Candidate; b.Quality.N != 3000 || q.Quality.N != 3000 || q.Requests.N != 1000 || q.Latency != nil || b.Latency.Count() != 1000 || q.Outside != 7 || b.Outside != 0 {
				t.Errorf("judged by %+v", m)
			}
			r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
			if w := logs[0].asked; err != nil || w.Experiment != string(s.id) || w.Within == nil || *w.Within != [2]float64{0, 1} || !w.From.Equal(r.State.EnteredAt) {
				t.Errorf("asked for %+v, %v, the step began at %s", w, err, r.State.EnteredAt)
			}
		})
	}
}

// answers has arms answer about a mean.
func answers(means map[string]float64, n int) record.Shapes {
	out, r := record.Shapes{}, rand.New(rand.NewPCG(1, 2))
	for arm, mean := range means {
		moved, same := new(drift.Sketch), new(drift.Sketch)
		for range n {
			moved.Add(mean + r.NormFloat64())
			same.Add(r.NormFloat64())
			moved.End()
			same.End()
		}
		out.Add(arm, "out/y", moved)
		out.Add(arm, "out/z", same)
		out.Add(arm, "in/x", moved)
	}
	return out
}

// A candidate that answers otherwise than the champion, or than the model did before, is
// rolled back; one that answers alike passes, and what is not known does not.
func TestDriftOfReleases(t *testing.T) {
	for name, c := range map[string]struct {
		limit                     evidence.Drift
		past, champion, candidate float64
		n                         int
		status                    release.Status
		scored                    string
	}{
		"as the champion":       {evidence.Drift{MaxPSI: 0.2}, 9, 0, 0.1, 2000, release.Promoted, "out/y"},
		"otherwise":             {evidence.Drift{MaxPSI: 0.2}, 0, 0, 1, 2000, release.RolledBack, "out/y"},
		"by another tensor":     {evidence.Drift{MaxPSI: 0.2, Tensor: "out/z"}, 0, 0, 1, 2000, release.Promoted, "out/z"},
		"inputs":                {evidence.Drift{MaxPSI: 0.2, Tensor: "in/x"}, 0, 0, 1, 2000, release.RolledBack, "in/x"},
		"too little":            {evidence.Drift{MaxPSI: 0.2}, 0, 0, 0, 150, release.Running, ""},
		"as before":             {evidence.Drift{MaxPSI: 0.2, Reference: "2h"}, 1, 0, 1, 2000, release.Promoted, "out/y"},
		"otherwise than before": {evidence.Drift{MaxPSI: 0.2, Reference: "2h"}, 1, 0, 0, 2000, release.RolledBack, "out/y"},
	} {
		t.Run(name, func(t *testing.T) {
			logs := []*book{{name: "one"}, {name: "two"}}
			s, readers := newAsking(t, evidence.Policy{Alpha: 0.05, MinRequests: 100, Drift: &c.limit}, logs...)
			if r := s.read(t, readers, logs); r.Status != release.Running {
				t.Fatalf("without answers: %s", r.Status)
			}
			for _, r := range readers {
				clear(r.before) // as after a start: what was before a release does not change otherwise
			}
			for _, log := range logs {
				log.shapes = answers(map[string]float64{release.Champion: c.champion, release.Candidate: c.candidate}, c.n/2)
				log.past = answers(map[string]float64{"": c.past}, c.n/2)
			}
			if r := s.read(t, readers, logs); r.Status != c.status {
				t.Fatalf("%s: %s", r.Status, r.Reason)
			}
			s.replays(t)
			last, err := cqrs.Ask(as("key_a"), s.bus, LastDecision{ID: s.id})
			if err != nil {
				t.Fatal(err)
			}
			if m := last.Decision.Measured; c.scored != "" && (m.Scored != c.scored || m.Scores.Window != int64(c.n)) {
				t.Errorf("%s: %+v", m.Scored, m.Scores)
			}
			for _, f := range logs[0].windows {
				if (f.Model != "") != (f.Experiment == "") || f.Model != "" && (f.To.Sub(f.From) != 2*time.Hour || !f.To.Equal(f.To.Truncate(record.Resolution))) {
					t.Errorf("asked for %+v", f)
				}
			}
		})
	}
}

// A reference is what decisions were made by, also for a process that starts later and
// finds another log.
func TestReferenceStays(t *testing.T) {
	log := &book{name: "one", past: answers(map[string]float64{"": 0}, 2000)}
	s, readers := newAsking(t, evidence.Policy{Alpha: 0.05, MinRequests: 100, Drift: &evidence.Drift{MaxPSI: 0.2, Reference: "2h"}}, log)
	s.read(t, readers, []*book{log})
	later, err := NewReader(s.store, log, TurnConfig{})
	if err != nil {
		t.Fatal(err)
	}
	log.past = answers(map[string]float64{"": 5}, 1000)
	log.shapes = answers(map[string]float64{release.Champion: 0, release.Candidate: 0}, 2000)
	if r := s.read(t, []*Reader{later}, []*book{log}); r.Status != release.Promoted {
		t.Errorf("%s: %s", r.Status, r.Reason)
	}
}

// A log that cannot be read leaves what was known, and one reader of it at a time
// writes: what it finds written already stays as it is.
func TestReadersOfLogs(t *testing.T) {
	log := &book{name: "one"}
	s, readers := newLogged(t, log)
	log.says("right", 90, 0.9, 0.9)
	s.read(t, readers, []*book{log})
	log.fail = errors.New("away")
	s.read(t, readers, []*book{log})
	other, err := NewReader(s.store, log, TurnConfig{})
	if err != nil {
		t.Fatal(err)
	}
	log.fail = nil
	log.says("right", 0, 0, 0)
	s.read(t, []*Reader{other}, []*book{log})
	r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Counted{s.store}.Measure(t.Context(), r)
	if err != nil || m.Candidate.Quality.N != 0 || m.Candidate.Requests.N != 1000 {
		t.Errorf("%+v, %v", m, err)
	}
}

// Without a log no release waits for what only a log knows.
func TestReleaseNeedsLog(t *testing.T) {
	s := newStage(t, false)
	s.service.Unlogged = true
	policy := evidence.Policy{Alpha: 0.05, MinRequests: 1, Quality: &evidence.Quality{Worse: 0.1, MinLabels: 100}}
	_, err := s.service.StartRelease(as("key_a"), s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: []release.Step{{Name: "a", Weight: 1, Policy: policy}}})
	coded(t, "without a log", err, "release_needs_log")
	coded(t, "by errors", second(s.service.StartRelease(as("key_a"), s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)})), "")
}

// Of an experiment count all its parts, each with its weights.
func TestExperimentsAreCounted(t *testing.T) {
	s := newStage(t, false)
	arms := []WeightedArm{{"a", "1", 5000}, {"b", "2", 5000}}
	if _, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: arms}); err != nil {
		t.Fatal(err)
	}
	serve := func(n int) {
		t.Helper()
		if err := s.follower.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		split := s.router.names["m"][""].Split
		for range n {
			split.Arms[0].Meter.Answered(experiment.ByRequest, time.Millisecond)
			split.Arms[1].Meter.Failed(experiment.ByRequest)
		}
		for _, tally := range s.follower.Tallies().all() {
			if err := tally.write(t.Context(), s.store, "node"); err != nil {
				t.Fatal(err)
			}
		}
	}
	serve(10)
	for i := range 3 {
		if _, err := cqrs.Send(as("key_a"), s.bus, Reweigh{ID: "exp_1", Arms: weights([]WeightedArm{{"a", "", 4000 - i}, {"b", "", 6000 + i}}), Expect: Expectation{Any: true}}); err != nil {
			t.Fatal(err)
		}
		serve(1)
	}
	if n := len(s.follower.Tallies().all()); n != 2 {
		t.Errorf("%d parts are in memory, want the last two", n)
	}
	x, err := cqrs.Ask(as("key_a"), s.bus, FindExperiment{ID: "exp_1"})
	if err != nil {
		t.Fatal(err)
	}
	all, err := Counted{s.store}.Arms(t.Context(), x)
	found, units := all.Arms, all.Units
	if err != nil || len(found) != 2 || found[0].Numbers.Requests != (sequential.Count{N: 13}) || found[1].Numbers.Requests != (sequential.Count{N: 13, Hits: 13}) || found[1].Weight != 6002 {
		t.Errorf("%+v, %v", found, err)
	}
	of := map[float64]int64{}
	for _, u := range units {
		of[u.Weights[1]] += u.Counts[1]
	}
	if len(all.Weightings) != 4 {
		t.Errorf("%d weightings, want 4", len(all.Weightings))
	}
	if len(of) != 4 || of[0.5] != 10 || of[0.6] != 1 || of[0.6002] != 1 {
		t.Errorf("%v", units)
	}
}

func weightsOf(candidate int) []experiment.Arm {
	return []experiment.Arm{{Name: release.Champion, Weight: experiment.Total - candidate}, {Name: release.Candidate, Weight: candidate}}
}
