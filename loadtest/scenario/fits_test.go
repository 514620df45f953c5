package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ours = `
name: a
server: {models: [{name: mid_mlp, versions: 2}, {name: writer}]}
phases: [{name: one, for: 1s}]
traffic: [{name: x, model: mid_mlp, protocol: binary, rate: {all: 20}}]
actions: [{do: promote, phase: one, model: mid_mlp}]
assert: [{metric: failed, of: x, at_most: 0}]
`

// Names of models are compared with what there is before a server starts.
func TestModelsThatAreNotServedAreRefused(t *testing.T) {
	models := t.TempDir()
	for _, name := range []string{"mid_mlp", "writer"} {
		if err := os.MkdirAll(filepath.Join(models, name, "1"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{ModelDir: func(name string) string { return filepath.Join(models, name) }}
	for old, bad := range map[string][2]string{
		"":                        {"", ""},
		"model: mid_mlp, prot":    {"model: mid_mpl, prot", `traffic x: there is no model in server.models "mid_mpl": did you mean "mid_mlp"?`},
		"model: mid_mlp, proto":   {"model: forest, proto", "only [mid_mlp writer]"},
		"one, model: mid_mlp}":    {"one, model: mid_mpl}", `action promote: there is no model in server.models "mid_mpl": did you mean "mid_mlp"?`},
		"one, model: mid_mlp":     {"one, model: writer", "versions: 2"},
		"{name: writer}":          {"{name: wirter}", `no model "wirter"`},
		"do: promote, phase: one": {"do: reload, phase: one", ""},
	} {
		s, err := Parse([]byte(strings.Replace(ours, old, bad[0], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Fits(o); (err == nil) != (bad[1] == "") || err != nil && !strings.Contains(err.Error(), bad[1]) {
			t.Errorf("%s: got %v, want %q", bad[0], err, bad[1])
		}
	}
}
