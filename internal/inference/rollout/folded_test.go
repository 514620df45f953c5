package rollout

import (
	"context"
	"slices"
	"testing"
	"time"

	"sluice/internal/platform/repo"
)

// What an experiment is allocated by stays as it is where the tallies that are folded have
// gone, is counted once however often it is read, and grows by what nodes count now.
func TestSuccessesAreFolded(t *testing.T) {
	s := newStage(t, false)
	x, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 5000}, {"b", "2", 5000}}, Bandit: &Bandit{Every: MinEvery}})
	if err != nil {
		t.Fatal(err)
	}
	c := Counted{s.store}
	count := func(version int64, node string, of ...[2]int64) {
		t.Helper()
		arms := counts(of...)
		for i, a := range x.State.Config.Allocation.Arms() {
			arms[i].Arm, arms[i].Weight = a.Name, a.Weight
		}
		if err := keep(t.Context(), s.store, part{"exp_1", version}, node, arms, nil); err != nil {
			t.Fatal(err)
		}
	}
	successes := func() []int64 {
		t.Helper()
		counts, err := c.successes(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		var flat []int64
		for _, n := range counts {
			flat = append(flat, n.N, n.Hits)
		}
		return flat
	}
	if got := successes(); got != nil {
		t.Errorf("of nothing: %v", got)
	}
	for version := int64(1); version <= 40; version++ { // as many times as the weights were changed
		count(version, "n1", [2]int64{50, 5}, [2]int64{50, 10})
		count(version, "n2", [2]int64{50, 5}, [2]int64{50, 10})
	}
	x.Root.Version = 40
	want := []int64{4000, 3600, 4000, 3200}
	if got := successes(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for version := int64(1); version < 40; version++ {
		for _, node := range []string{"n1", "n2"} {
			err := s.store.Do(t.Context(), repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
				return TallyKind.Erase(ctx, tx, TallyID(part{"exp_1", version}.String()+"/"+node))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if got := successes(); !slices.Equal(got, want) {
			t.Errorf("without the tallies that are folded: %v, want %v", got, want)
		}
	}
	count(40, "n2", [2]int64{150, 15}, [2]int64{150, 30})
	if got, want := successes(), []int64{4100, 3690, 4100, 3280}; !slices.Equal(got, want) {
		t.Errorf("with what was counted since: %v, want %v", got, want)
	}
	for range 6 { // half a year: nothing is folded, and what is read stays
		s.clock.mu.Lock()
		s.clock.now = s.clock.now.Add(MaxEvery)
		s.clock.mu.Unlock()
		count(40, "n1", [2]int64{50, 5}, [2]int64{50, 10})
		count(40, "n2", [2]int64{150, 15}, [2]int64{150, 30})
		if got, want := successes(), []int64{4100, 3690, 4100, 3280}; !slices.Equal(got, want) {
			t.Errorf("after a while: %v, want %v", got, want)
		}
	}
	x.Root.Version = 41
	s.clock.mu.Lock()
	s.clock.now = s.clock.now.Add(MaxEvery + time.Hour) // the next allocation, of what was counted right behind the last
	s.clock.mu.Unlock()
	if got, want := successes(), []int64{4100, 3690, 4100, 3280}; !slices.Equal(got, want) {
		t.Errorf("after the longest time between allocations: %v, want %v", got, want)
	}
	if f, _, err := c.folded(t.Context(), x); err != nil || f.Through != 40 {
		t.Errorf("folded through %d, %v, want 40", f.Through, err)
	}
	stale := Folded{Through: 99}
	if err := c.fold(t.Context(), x, 7, stale); err != nil { // who was slower folds nothing
		t.Fatal(err)
	}
	if f, _, err := c.folded(t.Context(), x); err != nil || f.Through != 40 {
		t.Errorf("folded through %d, %v, want 40", f.Through, err)
	}
	if all, err := c.Arms(t.Context(), x); err != nil || len(all.Weightings) != 1 {
		t.Errorf("%d weightings, %v: what is folded is no tally of its own", len(all.Weightings), err)
	}
}
