package rollouthttp

import (
	"testing"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/release"
)

// Whoever reads releases is not told whose evaluation one has waited for; what is stored stays.
func TestEventsNameNoTenant(t *testing.T) {
	e := release.Started{Plan: release.Plan{Tenant: "acme", Steps: []release.Step{release.ReplayStep(release.Replaying{Tenant: "acme", Evaluation: "eval_1"}, evidence.Replay{MinRows: 1})}}}
	shown, ok := shownEvent(e).(release.Started)
	if !ok || shown.Plan.Tenant != "" || *shown.Plan.Steps[0].Replay != (release.Replaying{Evaluation: "eval_1"}) {
		t.Errorf("%+v", shown)
	}
	if e.Plan.Tenant != "acme" || e.Plan.Steps[0].Replay.Tenant != "acme" {
		t.Error("what is stored was changed")
	}
}
