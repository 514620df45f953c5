package registryhttp

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/internal/inference/registry"
	"sluice/internal/platform/fault"
)

func TestFilters(t *testing.T) {
	if f, err := filterOf("team:a:b", "", ""); err != nil || f != (filter{label: [2]string{"team", "a:b"}}) {
		t.Errorf("%+v %v", f, err)
	}
	if f, err := filterOf("", "", ""); err != nil || f != (filter{}) {
		t.Errorf("no filter is %+v, %v", f, err)
	}
	for _, text := range []string{"team", ":a", ":"} {
		if _, err := filterOf(text, "", ""); fault.CodeOf(err) != "invalid_filter" {
			t.Errorf("label %q: %v", text, err)
		}
	}
	for _, pair := range [][2]string{{"yesterday", ""}, {"", "2026-01-01"}} {
		if _, err := filterOf("", pair[0], pair[1]); fault.CodeOf(err) != "invalid_filter" {
			t.Errorf("between %q: %v", pair, err)
		}
	}
}

// Maps are never null, names are escaped, and aliases are for who may see them.
func TestModelView(t *testing.T) {
	e := &edge{prefix: "/v1"}
	m := &registry.Model{Name: "a b?", Stages: map[registry.Stage][]int64{registry.Ready: {1, 3}}, Latest: registry.Latest{Number: 3}}
	shown := func(aliases func(string) map[string]int64) string {
		t.Helper()
		data, err := json.Marshal(e.modelView(m, aliases))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	text := shown(nil)
	for _, want := range []string{`"/v1/models/a%20b%3F/versions/3"`, `"versions":2`, `"stages":{"ready":2}`, `"labels":{}`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s has no %s", text, want)
		}
	}
	if strings.Contains(text, "null") || strings.Contains(text, "aliases\":{") {
		t.Errorf("%s", text)
	}
	if text := shown(func(name string) map[string]int64 { return map[string]int64{"of " + name: 3} }); !strings.Contains(text, `"aliases":{"of a b?":3}`) {
		t.Errorf("%s has no aliases", text)
	}
}
