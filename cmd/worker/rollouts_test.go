package main

import (
	"context"
	"testing"
	"time"

	"sluice/internal/inference/rollout"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
)

// Three nodes on one queue and one store route by a change that one of them makes
// within a second.
func TestEveryNodeFollows(t *testing.T) {
	f := newFleet(t)
	var nodes []*worker
	for range 3 {
		w, _ := f.start(t)
		nodes = append(nodes, w)
	}
	ctx := access.With(t.Context(), &access.Principal{Tenant: access.DefaultTenant, Subject: "key_1", Permissions: access.SetOf(rollout.Read, rollout.Write)})
	version := func(w *worker) string {
		v, err := w.models.Public.Lookup("iris", "champion")
		if err != nil {
			return ""
		}
		return v.Text
	}
	var worst time.Duration
	for i := range 6 {
		text := []string{"1", "2"}[i%2]
		_, err := cqrs.Send(ctx, nodes[i%3].node.Bus, rollout.SetAlias{Model: "iris", Alias: "champion", Version: text, Expect: rollout.Expectation{Absent: i == 0, Any: i > 0}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for _, w := range nodes {
			eventually(t, "a node routes by the change", func() bool { return version(w) == text })
		}
		worst = max(worst, time.Since(began))
	}
	t.Logf("in effect on three nodes after %s at most", worst)
	// The machine may be busy; what must not be is that nodes only learn by asking.
	if worst > 4*time.Second {
		t.Errorf("a change was in effect after %s", worst)
	}
	if _, err := cqrs.Send(context.WithoutCancel(ctx), nodes[0].node.Bus, rollout.RemoveAlias{Model: "iris", Alias: "champion", Expect: rollout.Expectation{Any: true}}); err != nil {
		t.Fatal(err)
	}
	for _, w := range nodes {
		eventually(t, "a node has no such alias any more", func() bool { return version(w) == "" })
	}
}
