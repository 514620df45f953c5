package recordtest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
)

// Scores of an experiment are those of its window, to the millisecond, whoever the
// tenant is: what came late and what was said again counts as it is now.
func (s Suite) testScores(t *testing.T) {
	store, from, experiment := s.Open(t), base().Add(90*time.Second), uuid.NewString()
	want := record.Scores{}
	for i, c := range []struct {
		arm            string
		after          time.Duration
		byRule, shadow bool
		bulk           bool
		score          float64
	}{
		{"a", -time.Millisecond, false, false, false, 100}, // before the window
		{"a", 0, false, false, false, 1},
		{"a", time.Second, false, false, false, 0},
		{"a", time.Hour, false, false, true, 3},
		{"b", 29 * time.Second, false, false, false, -2},
		{"b", 30 * time.Second, false, false, false, 5},
		{"b", time.Minute, true, false, false, 100},
		{"b", time.Minute, false, true, false, 100},
	} {
		e := made(someone(), from.Add(c.after), 0)
		e.Choice, e.Bulk = record.Choice{Experiment: experiment, Arm: c.arm, ByRule: c.byRule, Shadow: c.shadow}, c.bulk
		other := made(e.Tenant, e.At, 1) // in no experiment
		if err := store.Append(t.Context(), []*record.Entry{e, other}); err != nil {
			t.Fatal(err)
		}
		label := func(id record.ID, name string, score *float64) {
			t.Helper()
			if _, err := store.Label(t.Context(), e.Tenant, []record.Label{{ID: id, Name: name, Score: score, Observed: from}}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		label(e.ID, "right", new(c.score+50)) // taken back at once
		label(e.ID, "right", &c.score)
		label(e.ID, "text", nil)
		label(other.ID, "right", &c.score)
		if i%2 == 1 {
			label(e.ID, "other", &c.score)
		}
		if c.after >= 0 && !c.byRule && !c.shadow {
			var one sequential.Moments
			one.Add(c.score)
			want.Add(c.arm, "right", one)
			if i%2 == 1 {
				want.Add(c.arm, "other", one)
			}
		}
	}
	got, err := store.Scores(t.Context(), record.Window{Experiment: experiment, From: from})
	if diff := cmp.Diff(want, got, approximately); err != nil || diff != "" {
		t.Errorf("%v:\n%s", err, diff)
	}
	within := record.Scores{} // the bounds are in it
	for _, score := range []float64{1, 3} {
		var one sequential.Moments
		one.Add(score)
		within.Add("a", "right", one)
		within.Add("a", "other", one)
	}
	got, err = store.Scores(t.Context(), record.Window{Experiment: experiment, From: from, Within: &[2]float64{0.5, 3}})
	if diff := cmp.Diff(within, got, approximately); err != nil || diff != "" {
		t.Errorf("within bounds: %v:\n%s", err, diff)
	}
	for _, bounds := range [][2]float64{{-2, 5}, {5, 5}, {-2, 0}, {6, 7}} { // whole minutes, parts of them, and nothing
		want := record.Scores{}
		for _, one := range []struct {
			arm, name string
			score     float64
		}{{"a", "right", 1}, {"a", "other", 1}, {"a", "right", 0}, {"a", "right", 3}, {"a", "other", 3}, {"b", "right", -2}, {"b", "right", 5}, {"b", "other", 5}} {
			if bounds[0] <= one.score && one.score <= bounds[1] {
				var m sequential.Moments
				m.Add(one.score)
				want.Add(one.arm, one.name, m)
			}
		}
		got, err := store.Scores(t.Context(), record.Window{Experiment: experiment, From: from, Within: &bounds})
		if diff := cmp.Diff(want, got, approximately); err != nil || diff != "" {
			t.Errorf("within %v: %v:\n%s", bounds, err, diff)
		}
	}
	if got, err := store.Scores(t.Context(), record.Window{Experiment: "none", From: from}); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// All who have a log open know it by the same name, and no other by that.
func (s Suite) testIdentity(t *testing.T) {
	store := s.Open(t)
	name, err := store.Identity(t.Context())
	if err != nil || name == "" {
		t.Fatalf("%q, %v", name, err)
	}
	if same, err := s.Second(t, store).Identity(t.Context()); err != nil || same != name {
		t.Errorf("the second who opens it is told %q, %v, the first %q", same, err, name)
	}
	if other, err := s.Open(t).Identity(t.Context()); err != nil || other == name {
		t.Errorf("another is named %q, too, %v", other, err)
	}
}
