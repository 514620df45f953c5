package rollout

import (
	"slices"
	"strings"
	"testing"

	"sluice/internal/inference/release"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// audited collects what the system does by the audit log: the action and the tenant.
func (b *bed) audited(t testing.TB) func() []string {
	t.Helper()
	var entries []audit.Entry
	b.store.Watch(func(c *repo.Changeset) {
		for _, m := range c.Messages {
			if m.Stream != repo.StreamAudit {
				continue
			}
			e, err := audit.Decode(m.Data)
			if err != nil {
				t.Error(err)
			}
			if e.Actor == "system" {
				entries = append(entries, e)
			}
		}
	})
	return func() (out []string) {
		for _, e := range entries {
			out = append(out, strings.Join([]string{e.Tenant, e.Action, e.Kind, e.Resource, string(e.Outcome)}, " "))
			if e.Change == "" {
				t.Errorf("an entry commits to no change: %+v", e)
			}
		}
		entries = nil
		return out
	}
}

// What the driver does to a release and its alias is in the audit log of the tenant that
// began the release, each change once; a look that changes nothing is not.
func TestDriverIsAudited(t *testing.T) {
	alias := "acme %s aliases " + string(AliasIDOf("m", "champion")) + " ok"
	for name, c := range map[string]struct {
		e    shown
		want []string
	}{
		"promoted":    {good, []string{"acme releases.judge_advance releases rel_1 ok", "acme releases.judge_advance releases rel_1 ok", strings.Replace(alias, "%s", "aliases.promote", 1)}},
		"rolled back": {bad, []string{"acme releases.judge_revert releases rel_1 ok", strings.Replace(alias, "%s", "aliases.free", 1)}},
		"nothing":     {nothing, []string{"acme releases.judge_hold releases rel_1 ok"}}, // undecided, once
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, false, 100, 5000)
			audited := s.audited(t)
			for range 5 {
				s.round(t, c.e)
			}
			if got := audited(); !slices.Equal(got, c.want) {
				t.Errorf("audited\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			s.replays(t)
		})
	}
}

// So is the end of what has lost its alias.
func TestEndOfWhatIsLostIsAudited(t *testing.T) {
	s := newStage(t, false, 100)
	s.set(t, "key_a", "other", "1", false)
	if _, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "other", Arms: []WeightedArm{{"a", "1", 5000}, {"b", "2", 5000}}}); err != nil {
		t.Fatal(err)
	}
	for alias, holder := range map[string]string{"champion": "rel_1", "other": "exp_1"} {
		if _, err := cqrs.Send(as("key_a"), s.bus, freeAlias{model: "m", alias: alias, holder: holder}); err != nil {
			t.Fatal(err)
		}
	}
	audited := s.audited(t)
	for range 3 {
		s.judge.Round(t.Context())
	}
	want := []string{"acme releases.rollback releases rel_1 ok", "acme experiments.stop experiments exp_1 ok"}
	if got := audited(); !slices.Equal(got, want) {
		t.Errorf("audited %q, want %q", got, want)
	}
}

// A judgement of what a release was before somebody paused it changes nothing.
func TestOvertakenJudgementChangesNothing(t *testing.T) {
	s := newStage(t, false, 100)
	find := func() *LoadedRelease {
		t.Helper()
		r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := find()
	measured, _ := good.Measure(t.Context(), before)
	coded(t, "the pause", second(cqrs.Send(as("key_a"), s.bus, ActOnRelease{ID: s.id, Action: Pause, Expect: Expectation{Any: true}})), "")
	after := find()
	for what, r := range map[string]*LoadedRelease{"of an earlier version": before, "with another outcome": after} {
		coded(t, what, second(cqrs.Send(asSystem(t.Context(), "acme"), s.bus, judge{release: r, measured: measured, outcome: release.Advance})), "release_overtaken")
	}
	if now := find(); now.Version != after.Version {
		t.Errorf("%+v", now)
	}
}
