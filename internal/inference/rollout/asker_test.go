package rollout

import (
	"context"
	"testing"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// by is the context of a credential that a person is behind.
func by(subject, person string) context.Context {
	return access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: subject, Person: person, Permissions: access.SetOf(Read, Write, Approve)})
}

func coded(t *testing.T, what string, err error, code string) {
	t.Helper()
	if code == "" && err != nil || code != "" && fault.CodeOf(err) != code {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

// An experiment asks nobody, so it neither begins for a protected alias nor gives
// its arms other shares.
func TestNoExperimentOfProtectedAlias(t *testing.T) {
	s := newStage(t, true)
	c := StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 0}, {"b", "2", 10000}}}
	coded(t, "of a protected alias", second(s.service.StartExperiment(as("key_a"), "exp_1", c)), "alias_protected")
	if _, err := cqrs.Ask(as("key_a"), s.bus, FindExperiment{ID: "exp_1"}); fault.CodeOf(err) != "experiment_not_found" {
		t.Errorf("it was begun: %v", err)
	}
	s.set(t, "key_a", "other", "1", false)
	c.Alias = "other"
	coded(t, "of another", second(s.service.StartExperiment(as("key_a"), "exp_2", c)), "")
	err := s.store.Do(t.Context(), repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Aliases.Append(ctx, tx, AliasIDOf("m", "other"), func(LoadedAlias) ([]aggregate.Event, error) {
			return []aggregate.Event{AliasSet{Model: "m", Alias: "other", Pointing: Pointing{1, "d1", true}}}, nil
		})
		return err
	})
	coded(t, "protected meanwhile", err, "")
	weights := Reweigh{ID: "exp_2", Arms: []experiment.Arm{{Name: "a", Weight: 5000}, {Name: "b", Weight: 5000}}, Expect: Expectation{Any: true}}
	coded(t, "other shares", second(cqrs.Send(as("key_a"), s.bus, weights)), "alias_protected")
	coded(t, "its end", second(s.service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_2"})), "")
}

// Whoever asks cannot approve by another credential, neither by one that they made
// nor by one that made theirs.
func TestOnePersonIsNotTwo(t *testing.T) {
	for _, c := range []struct {
		name           string
		asks, approves context.Context
	}{
		{"by a key of theirs", by("usr_x", ""), by("key_1", "usr_x")},
		{"asked by a key", by("key_1", "usr_x"), by("usr_x", "")},
		{"by a second key", by("key_1", "usr_x"), by("key_2", "usr_x")},
		{"by a key of the key", by("key_1", ""), by("key_2", "key_1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, true)
			decide := func(ctx context.Context) error {
				return second(cqrs.Send(ctx, s.bus, DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Any: true}}))
			}
			coded(t, "proposed", second(cqrs.Send(c.asks, s.bus, SetAlias{Model: "m", Alias: "champion", Version: "3", Expect: Expectation{Any: true}})), "")
			coded(t, "approved", decide(c.approves), "approval_by_requester")
			coded(t, "by somebody else", decide(by("key_3", "usr_y")), "")
			coded(t, "begun", second(s.service.StartRelease(c.asks, s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)})), "")
			if r, _, _ := s.round(t, good); r.Status != release.Waiting {
				t.Fatalf("the release is %s", r.Status)
			}
			act := func(ctx context.Context) error {
				return second(cqrs.Send(ctx, s.bus, ActOnRelease{ID: s.id, Action: Agree, Expect: Expectation{Any: true}}))
			}
			coded(t, "agreed", act(c.approves), "approval_by_requester")
			coded(t, "agreed by somebody else", act(by("key_3", "usr_y")), "")
			s.replays(t)
		})
	}
}

// Without authentication nothing is begun that somebody else would have to approve,
// and what is protected from before is freed of that.
func TestNobodyProtects(t *testing.T) {
	s := newStage(t, true)
	nobody := access.With(t.Context(), access.Anonymous(access.SetOf(Read, Write, Approve)))
	yes, no := true, false
	set := func(alias, version string, protected *bool, e Expectation) error {
		return second(cqrs.Send(nobody, s.bus, SetAlias{Model: "m", Alias: alias, Version: version, Protected: protected, Expect: e}))
	}
	start := func(steps []release.Step) error {
		return second(s.service.StartRelease(nobody, s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps}))
	}
	asking := steps(100)
	asking[0].Approval = true
	const code = "approval_needs_identity"
	coded(t, "made", set("other", "1", &yes, Expectation{Absent: true}), code)
	coded(t, "another version", set(route.Default, "2", nil, Expectation{Any: true}), code)
	coded(t, "removed", second(cqrs.Send(nobody, s.bus, RemoveAlias{Model: "m", Alias: "champion", Expect: Expectation{Any: true}})), code)
	coded(t, "released", start(steps(100)), code)
	coded(t, "proposed by somebody", second(cqrs.Send(as("key_a"), s.bus, SetAlias{Model: "m", Alias: "champion", Version: "3", Expect: Expectation{Any: true}})), "")
	coded(t, "approved", second(cqrs.Send(nobody, s.bus, DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Any: true}})), code)
	coded(t, "freed", set(route.Default, "1", &no, Expectation{Any: true}), "")
	coded(t, "protected", set(route.Default, "1", &yes, Expectation{Any: true}), code)
	coded(t, "released with an approval", start(asking), code)
	coded(t, "released", start(steps(100)), "")
	if a, err := cqrs.Ask(nobody, s.bus, FindAlias{Model: "m", Alias: "champion"}); err != nil || a.State.Protected || a.State.Proposed != nil {
		t.Errorf("%+v, %v", a, err)
	}
}
