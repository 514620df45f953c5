package release

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

var policy = evidence.Policy{Alpha: 0.05, MinRequests: 100, ErrorRate: &evidence.ErrorRate{Worse: 0.02}}

// plan has a shadow step, a canary that somebody has to approve, and a last step.
func plan() Plan {
	return Plan{
		Model: "m", Alias: "champion", Champion: "sha256:a", Candidate: "sha256:b",
		Steps: []Step{
			{Name: "shadow", Shadow: true, Policy: policy},
			{Name: "canary", Weight: 100, Policy: policy, MinDuration: time.Hour, MaxDuration: 3 * time.Hour, Approval: true},
			{Name: "half", Weight: 5000, Policy: policy},
		},
	}
}

// numbers are those of n requests of each arm, of which the candidate failed some.
func numbers(n, failed int64) evidence.Measured {
	return evidence.Measured{
		Baseline:  evidence.Numbers{Requests: sequential.Count{N: n, Hits: n / 100}},
		Candidate: evidence.Numbers{Requests: sequential.Count{N: n, Hits: failed}},
	}
}

var (
	good   = numbers(20_000, 200)
	bad    = numbers(20_000, 2_000)
	scarce = numbers(10, 0)
)

// bench is a release in a store, with a clock.
type bench struct {
	store *repo.Store
	now   time.Time
}

const requester, approver = "usr_1", "usr_2"

func begin(t testing.TB, p Plan) *bench {
	t.Helper()
	b := &bench{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.store = repo.New(memrepo.New(memrepo.Config{}), repo.Config{Now: func() time.Time { return b.now }})
	events, err := Start(p)
	if err != nil {
		t.Fatal(err)
	}
	err = b.store.Do(t.Context(), repo.Scope{Tenant: "acme", Actor: requester}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Releases.Begin(ctx, tx, "rel_1", events...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// do appends what somebody has decided.
func (b *bench) do(actor string, decide func(s *State, by, requester string, now time.Time) ([]aggregate.Event, error)) error {
	return b.store.Do(context.Background(), repo.Scope{Tenant: "acme", Actor: actor}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Releases.Append(ctx, tx, "rel_1", func(l eventstore.Loaded[ID, State]) ([]aggregate.Event, error) {
			return decide(&l.State, actor, l.CreatedBy, tx.Now())
		})
		return err
	})
}

func (b *bench) assess(m evidence.Measured) error {
	return b.do("system", func(s *State, _, _ string, now time.Time) ([]aggregate.Event, error) { return s.Assess(m, now) })
}

func (b *bench) approve(by string) error {
	return b.do(by, func(s *State, by, requester string, _ time.Time) ([]aggregate.Event, error) {
		return s.Approve(by, requester)
	})
}

func (b *bench) pause() error {
	return b.do(approver, func(s *State, _, _ string, _ time.Time) ([]aggregate.Event, error) { return s.Pause("lunch") })
}

func (b *bench) resume() error {
	return b.do(approver, func(s *State, _, _ string, _ time.Time) ([]aggregate.Event, error) { return s.Resume() })
}

func (b *bench) rollBack() error {
	return b.do(approver, func(s *State, _, _ string, _ time.Time) ([]aggregate.Event, error) { return s.RollBack("a hunch") })
}

func (b *bench) history() iter.Seq2[eventstore.Recorded, error] {
	return Releases.History(context.Background(), b.store.Read(repo.Scope{Tenant: "acme"}), "rel_1", 0)
}

func (b *bench) state() (State, error) {
	l, err := Releases.Get(context.Background(), b.store.Read(repo.Scope{Tenant: "acme"}), "rel_1")
	return l.State, err
}

// want compares the state with where the release should be.
func (b *bench) want(t testing.TB, status Status, step, weight int) {
	t.Helper()
	s, err := b.state()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Allocation.Arms()[1].Weight; s.Status != status || s.Step != step || got != weight {
		t.Fatalf("%s at step %d with weight %d, want %s at step %d with weight %d", s.Status, s.Step, got, status, step, weight)
	}
	again, err := Replay(b.history())
	if err != nil || !same(again, s) {
		t.Fatalf("%v: the replay comes to %+v, the state is %+v", err, again, s)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheWholeWay(t *testing.T) {
	b := begin(t, plan())
	b.want(t, Running, 0, 0)
	must(t, b.assess(scarce))
	b.want(t, Running, 0, 0)
	must(t, b.assess(good))
	b.want(t, Running, 1, 100)
	must(t, b.assess(good)) // passes, but not for an hour yet
	b.want(t, Running, 1, 100)
	b.now = b.now.Add(time.Hour)
	must(t, b.assess(good))
	b.want(t, Waiting, 1, 100)
	if err := b.approve(requester); fault.CodeOf(err) != "approval_by_requester" || !fault.Is(err, fault.PermissionDenied) {
		t.Fatalf("approved by the requester: %v", err)
	}
	must(t, b.approve(approver))
	b.want(t, Running, 2, 5000)
	must(t, b.assess(good))
	b.want(t, Promoted, 3, experiment.Total)
	for name, err := range map[string]error{"assess": b.assess(bad), "approve": b.approve(approver), "pause": b.pause(), "resume": b.resume(), "roll back": b.rollBack()} {
		if fault.CodeOf(err) != "release_over" {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

// Whatever the release waits for, a guardrail that fails rolls it back.
func TestFailuresRollBack(t *testing.T) {
	for name, before := range map[string]func(b *bench) error{
		"running": func(*bench) error { return nil },
		"paused":  func(b *bench) error { return b.pause() },
		"waiting": func(b *bench) error { b.now = b.now.Add(time.Hour); return b.assess(good) },
	} {
		b := begin(t, plan())
		must(t, b.assess(good))
		must(t, before(b))
		must(t, b.assess(bad))
		b.want(t, RolledBack, 1, 0)
		if s, _ := b.state(); s.Reason != "error_rate: the candidate failed 2000 of 20000 requests, the baseline 200 of 20000" {
			t.Errorf("%s: rolled back because of %q", name, s.Reason)
		}
	}
}

// A step that comes to nothing is paused; resumed, it has its time again, and
// what it had waited for is asked for again.
func TestPauses(t *testing.T) {
	b := begin(t, plan())
	must(t, b.assess(good))
	b.now = b.now.Add(3*time.Hour + 1000)
	must(t, b.assess(scarce))
	b.want(t, Paused, 1, 100)
	must(t, b.assess(good)) // nobody goes on without being told
	b.want(t, Paused, 1, 100)
	must(t, b.resume())
	must(t, b.assess(scarce))
	b.want(t, Running, 1, 100)
	must(t, b.assess(good))
	b.want(t, Waiting, 1, 100)
	must(t, b.pause())
	must(t, b.pause())
	if err := b.approve(approver); fault.CodeOf(err) != "release_not_waiting" {
		t.Fatal(err)
	}
	must(t, b.resume())
	must(t, b.assess(good))
	b.want(t, Waiting, 1, 100)
	if err := b.resume(); fault.CodeOf(err) != "release_not_paused" {
		t.Fatal(err)
	}
	must(t, b.rollBack())
	b.want(t, RolledBack, 1, 0)
}

// Looking again and again at the same is no history.
func TestUnchangedVerdictsAreNotRecorded(t *testing.T) {
	b := begin(t, plan())
	for range 10 {
		must(t, b.assess(scarce))
	}
	n := 0
	for range b.history() {
		n++
	}
	if n != 2 {
		t.Errorf("%d events, want the start and one judgement", n)
	}
}

// Whatever happens in whatever order: a candidate serves what its step says,
// nobody's unit moves but from the champion to it while the share grows, nothing
// is promoted unapproved, and the history replays to the state.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := plan()
		p.Protected = rapid.Bool().Draw(rt, "protected")
		b := begin(t, p)
		before, _ := b.state()
		approvals := 0
		for _, action := range rapid.SliceOfN(rapid.SampledFrom([]string{"good", "good", "good", "scarce", "bad", "approve", "approve", "requester", "pause", "resume", "wait", "roll back"}), 1, 25).Draw(rt, "actions") {
			var err error
			switch action {
			case "good":
				err = b.assess(good)
			case "scarce":
				err = b.assess(scarce)
			case "bad":
				err = b.assess(bad)
			case "approve":
				if err = b.approve(approver); err == nil {
					approvals++
				}
			case "requester":
				if err = b.approve(requester); err == nil {
					rt.Fatal("the requester approved")
				}
			case "pause":
				err = b.pause()
			case "resume":
				err = b.resume()
			case "wait":
				b.now = b.now.Add(time.Hour + 1000)
			case "roll back":
				err = b.rollBack()
			}
			if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.PermissionDenied) {
				rt.Fatalf("%s: %v", action, err)
			}
			s, err := b.state()
			if err != nil {
				rt.Fatal(err)
			}
			want := map[Status]int{Promoted: experiment.Total, RolledBack: 0}[s.Status]
			if !s.Status.Final() {
				want = p.Steps[s.Step].Weight
			}
			was, is := before.Allocation.Arms()[1].Weight, s.Allocation.Arms()[1].Weight
			moved := before.Allocation.Moved(s.Allocation)
			if is != want || moved != max(is-was, was-is) || is < was && s.Status != RolledBack {
				rt.Fatalf("after %s: %s with weight %d after %d, want %d; %d slots moved", action, s.Status, is, was, want, moved)
			}
			if s.Status == Promoted && (approvals == 0 || p.Protected && approvals < 2) {
				rt.Fatalf("promoted after %d approvals", approvals)
			}
			before = s
		}
		again, err := Replay(b.history())
		if err != nil || !same(again, before) {
			rt.Fatalf("%v: the replay comes to %+v, the state is %+v", err, again, before)
		}
	})
}

// A history that somebody has changed does not replay.
func TestChangedHistoriesAreNoticed(t *testing.T) {
	b := begin(t, plan())
	must(t, b.assess(good))
	b.now = b.now.Add(time.Hour)
	must(t, b.assess(good))
	must(t, b.approve(approver))
	must(t, b.assess(good))
	var history []eventstore.Recorded
	for r, err := range b.history() {
		must(t, err)
		history = append(history, r)
	}
	replay := func(h []eventstore.Recorded) error {
		_, err := Replay(func(yield func(eventstore.Recorded, error) bool) {
			for _, r := range h {
				if !yield(r, nil) {
					return
				}
			}
		})
		return err
	}
	must(t, replay(history))
	for i, r := range history {
		if err := replay(slices.Delete(slices.Clone(history), i, i+1)); !fault.Is(err, fault.Conflict) {
			t.Errorf("without event %d, %s: %v", i, r.EventType(), err)
		}
		if err := replay(slices.Insert(slices.Clone(history), i, r)); !fault.Is(err, fault.Conflict) {
			t.Errorf("with event %d, %s, twice: %v", i, r.EventType(), err)
		}
		j, ok := r.Event.(Judged)
		if !ok {
			continue
		}
		for name, change := range map[string]func(j *Judged){
			"numbers": func(j *Judged) { j.Decision.Measured = bad },
			"policy":  func(j *Judged) { j.Decision.Policy.Alpha = 0.2 },
			"outcome": func(j *Judged) { j.Outcome = Hold },
			"time":    func(j *Judged) { j.Elapsed += time.Hour },
			"verdict": func(j *Judged) { j.Decision.Judgement.Verdict = evidence.Undecided },
		} {
			changed, other := slices.Clone(history), j
			change(&other)
			changed[i].Event = other
			if err := replay(changed); !fault.Is(err, fault.Conflict) {
				t.Errorf("event %d with other %s: %v", i, name, err)
			}
		}
	}
}

// The last step of a protected alias needs an approval, whatever the plan says.
func TestProtectedAliasesAskForApproval(t *testing.T) {
	p := plan()
	p.Protected = true
	last := len(p.Steps) - 1
	events, err := Start(p)
	must(t, err)
	if started := events[0].(Started); !started.Plan.Steps[last].Approval || p.Steps[last].Approval {
		t.Error("a protected alias is promoted without approval, or the caller's plan was changed")
	}
}

// A shadow has no guardrail that would never pass.
func TestShadowsAreNotAskedForWhatTheyLack(t *testing.T) {
	for name, change := range map[string]func(p *evidence.Policy){
		"sample_ratio": func(p *evidence.Policy) { p.SampleRatio = &evidence.SampleRatio{Alpha: 0.001} },
		"quality":      func(p *evidence.Policy) { p.Quality = &evidence.Quality{Worse: 0.1, MinLabels: 100} },
		"drift":        func(p *evidence.Policy) { p.Drift = &evidence.Drift{MaxPSI: 0.2} },
	} {
		p := plan()
		change(&p.Steps[1].Policy)
		if err := p.Validate(); err != nil {
			t.Errorf("%s of a canary: %v", name, err)
		}
		change(&p.Steps[0].Policy)
		if err := fault.Of(p.Validate()); err == nil || len(err.Details) != 1 || err.Details[0].Pointer != "/steps/0/policy" {
			t.Errorf("%s of a shadow: %v", name, err)
		}
	}
}

func TestBadPlansAreRefused(t *testing.T) {
	for pointer, change := range map[string]func(p *Plan){
		"/model":                   func(p *Plan) { p.Model = "" },
		"/candidate":               func(p *Plan) { p.Candidate = p.Champion },
		"/steps":                   func(p *Plan) { p.Steps = nil },
		"/steps/1/name":            func(p *Plan) { p.Steps[1].Name = "shadow" },
		"/steps/1/weight":          func(p *Plan) { p.Steps[1].Weight = experiment.Total },
		"/steps/0/weight":          func(p *Plan) { p.Steps[0].Shadow = false },
		"/steps/2/weight":          func(p *Plan) { p.Steps[2].Weight = 50 },
		"/steps/1/max_duration_ns": func(p *Plan) { p.Steps[1].MaxDuration = time.Hour },
		"/steps/0/policy":          func(p *Plan) { p.Steps[0].Policy = evidence.Policy{Alpha: 0.05, MinRequests: 1} },
		"/steps/2/policy/alpha":    func(p *Plan) { p.Steps[2].Policy.Alpha = 1 },
	} {
		p := plan()
		change(&p)
		_, err := Start(p)
		if details := fault.Of(err); !fault.Is(err, fault.Unprocessable) || len(details.Details) == 0 || details.Details[0].Pointer != pointer {
			t.Errorf("%s: %v %+v", pointer, err, details)
		}
	}
	if _, err := new(State).Pause(fmt.Sprintf("%*d", MaxText+1, 1)); !fault.Is(err, fault.Unprocessable) {
		t.Errorf("a long reason: %v", err)
	}
	many := plan()
	many.Steps = make([]Step, MaxSteps+1)
	if err := many.Validate(); !fault.Is(err, fault.Unprocessable) {
		t.Error(err)
	}
}
