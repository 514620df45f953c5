package rollouts

import (
	"testing"

	"sluice/cmd/internal/node"
	"sluice/internal/inference/rollout"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// What is no number names no version here, whatever else it may name.
func TestCatalog(t *testing.T) {
	c := catalog{serve.New(nil, nil, serve.Config{})}
	for _, version := range []string{"1", "champion", "01", ""} {
		if _, err := c.Find("none", version); fault.CodeOf(err) != "model_not_found" {
			t.Errorf("version %q of no model: %v", version, err)
		}
	}
}

func TestNeed(t *testing.T) {
	d := Need(node.Deps{})
	if len(d.Schemas) == 0 || d.Schemas[0].Kind != rollout.Aliases.Name {
		t.Errorf("%+v", d.Schemas)
	}
}
