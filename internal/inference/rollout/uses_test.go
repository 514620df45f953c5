package rollout

import (
	"strings"
	"testing"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// A version is needed by the alias that names it, by what is proposed, by both
// sides of a release and by every arm of an experiment, while those live.
func TestUses(t *testing.T) {
	b := newBed(t)
	service := NewService(b.bus, b.shelf)
	used := func(n int64, want string) {
		t.Helper()
		why, err := Uses(t.Context(), b.store.Read(repo.Scope{}), "m", n)
		if err != nil || want == "" && why != "" || want != "" && !strings.Contains(why, want) {
			t.Errorf("version %d: %q, %v; want %q", n, why, err, want)
		}
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	used(1, "")
	b.set(t, "key_a", "safe", "1", true)
	used(1, "alias safe names it")
	b.set(t, "key_a", "safe", "2", true)
	used(2, "proposed for the alias safe")
	must(cqrs.Send(as("key_b"), b.bus, DecideAlias{Model: "m", Alias: "safe", Expect: Expectation{Any: true}}))
	used(2, "")

	b.set(t, "key_a", "live", "2", false)
	r, err := service.StartRelease(as("key_a"), "rel_1", StartRelease{Model: "m", Alias: "live", Candidate: "3", Steps: steps(100)})
	must(r, err)
	used(2, "alias live names it")
	used(3, "release rel_1 walks it to the alias live")
	must(cqrs.Send(as("key_a"), b.bus, ActOnRelease{ID: "rel_1", Action: RollBack, Expect: Expectation{Any: true}}))
	must(cqrs.Send(as("key_a"), b.bus, freeAlias{model: "m", alias: "live", holder: "rel_1"}))
	used(3, "")

	arms := []WeightedArm{{"a", "3", 5000}, {"b", "4", 5000}}
	must(service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "live", Arms: arms}))
	used(3, "its arm a")
	used(4, "its arm b")
	_, err = service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_1", Expect: &Expectation{Version: 7}})
	coded(t, "to stop what was another", err, "version_mismatch")
	used(4, "its arm b")
	must(service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_1", Expect: &Expectation{Version: 1}}))
	used(4, "")
	live, err := cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "live"})
	must(live, err)
	must(cqrs.Send(as("key_a"), b.bus, holdAlias{model: "m", alias: "live", holder: "exp_2", version: live.Version}))
	used(4, "exp_2 of the alias live is being begun")
	if why, err := Uses(t.Context(), b.store.Read(repo.Scope{}), "other", 1); why != "" || err != nil {
		t.Errorf("of another model: %q %v", why, err)
	}
}
