package modelrepo

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestOverlay(t *testing.T) {
	r, _ := open(t, map[string]string{
		"m/1/model.onnx": "one", "m/2/model.onnx": "two", "m/2/alt.onnx": "alternative", "m/labels.txt": "disk",
		"m/config.yaml":   "slo: 10ms\nlabels: {best: 2}",
		"bad/config.yaml": "?", "bad/1/model.onnx": "fine",
	})
	for _, c := range []struct {
		name, model, config string
		files               map[string]string
		want                map[int64]string
		labels              []string
	}{
		{name: "nothing", model: "m", want: map[int64]string{2: "two"}},
		{name: "config", model: "m", config: `{"version_policy":{"all":{}}}`, want: map[int64]string{1: "one", 2: "two"}},
		{name: "other file name", model: "m", config: `{"default_model_filename":"alt.onnx"}`, want: map[int64]string{2: "alternative"}},
		{name: "labels on disk", model: "m", config: `{"output":[{"name":"y","label_filename":"labels.txt"}]}`, want: map[int64]string{2: "two"}, labels: []string{"disk"}},
		{name: "files", model: "m", config: `{}`, files: map[string]string{"7/model.onnx": "seven"}, want: map[int64]string{7: "seven"}},
		{name: "files of a new model", model: "new", config: `{"version_policy":{"all":{}}}`,
			files: map[string]string{"1/model.onnx": "", "3/model.onnx": "three"}, want: map[int64]string{1: "", 3: "three"}},
		{name: "labels in memory", model: "m", config: `{"output":[{"name":"y","label_filename":"labels.txt"}]}`,
			files: map[string]string{"1/model.onnx": "x", "labels.txt": "memory"}, want: map[int64]string{1: "x"}, labels: []string{"memory"}},
		{name: "broken on disk", model: "bad", config: `{}`, want: map[int64]string{1: "fine"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := r.Overlay(t.Context(), c.model, Override{Config: c.config, Files: contents(c.files)})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(e.Chosen, slices.Sorted(maps.Keys(c.want))) || e.Config.Name != c.model {
				t.Errorf("chosen %v of %q", e.Chosen, e.Config.Name)
			}
			for version, want := range c.want {
				if got, err := r.Read(t.Context(), e, version); err != nil || string(got) != want {
					t.Errorf("version %d: %q, %v", version, got, err)
				}
			}
			if c.model == "m" && e.Config.Labels["best"] != 2 {
				t.Error("the version labels are lost")
			}
			if c.labels != nil && !slices.Equal(e.Config.Outputs[0].Labels, c.labels) {
				t.Errorf("labels %q", e.Config.Outputs[0].Labels)
			}
		})
	}
}

func contents(files map[string]string) map[string][]byte {
	out := map[string][]byte{}
	for path, content := range files {
		out[path] = []byte(content)
	}
	return out
}

func TestOverlayRefusals(t *testing.T) {
	r, dir := open(t, map[string]string{"m/1/model.onnx": "one"})
	r.limits.ModelBytes, r.limits.LabelBytes = 8, 8
	withLabels := `{"output":[{"name":"y","label_filename":"l"}]}`
	for _, c := range []struct {
		name, model, config string
		files               map[string]string
		want                string
	}{
		{"no config", "m", "", map[string]string{"1/model.onnx": "x"}, "Load parameter 'config' must be specified for model file override"},
		{"bad config", "m", "{", nil, "config override: line 1: not valid JSON"},
		{"other name", "m", `{"name":"n"}`, nil, `name: must be "m"`},
		{"unknown model", "nobody", `{}`, nil, `model "nobody" is not in the repository`},
		{"bad name", "../m", `{}`, nil, "must not contain slashes"},
		{"stats", "stats", `{}`, map[string]string{"1/model.onnx": "x"}, "/v2/models/stats"},
		{"escape", "m", `{}`, map[string]string{"../1/model.onnx": "x", "1/model.onnx": "x"}, `file "../1/model.onnx" is not part of model "m"`},
		{"absolute", "m", `{}`, map[string]string{"/1/model.onnx": "x", "1/model.onnx": "x"}, "is not part of"},
		{"dots", "m", `{}`, map[string]string{"1/../1/model.onnx": "x", "1/model.onnx": "x"}, "is not part of"},
		{"version 0", "m", `{}`, map[string]string{"0/model.onnx": "x", "1/model.onnx": "x"}, "is not part of"},
		{"leading zero", "m", `{}`, map[string]string{"01/model.onnx": "x", "1/model.onnx": "x"}, "is not part of"},
		{"external data", "m", `{}`, map[string]string{"1/model.onnx.data": "x", "1/model.onnx": "x"}, "is not part of"},
		{"config file", "m", `{}`, map[string]string{"config.pbtxt": "x", "1/model.onnx": "x"}, "is not part of"},
		{"no version", "m", withLabels, map[string]string{"l": "x"}, "has no version"},
		{"policy", "m", `{"version_policy":{"specific":{"versions":[2]}}}`, nil, "version 2 of its version policy is not in the repository"},
		{"no labels", "m", withLabels, map[string]string{"1/model.onnx": "x"}, `label file "l" is not beside`},
		{"large model", "m", `{}`, map[string]string{"1/model.onnx": "123456789"}, "at most 8 are allowed"},
		{"large labels", "m", withLabels, map[string]string{"1/model.onnx": "x", "l": "123456789"}, "at most 8 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.Overlay(t.Context(), c.model, Override{Config: c.config, Files: contents(c.files)})
			if err == nil || !strings.Contains(fault.Of(err).Message, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(fault.Of(err).Message, dir) {
				t.Errorf("%v tells where the repository is", err)
			}
		})
	}
}

// Loads with different overrides are told apart, equal ones are not.
func TestOverlayFingerprint(t *testing.T) {
	r, _ := open(t, map[string]string{"m/1/model.onnx": "one"})
	seen := map[string]int{}
	for range 2 {
		for i, o := range []Override{{}, {Config: `{}`}, {Config: `{"max_batch_size":0}`},
			{Config: `{}`, Files: contents(map[string]string{"1/model.onnx": "a"})},
			{Config: `{}`, Files: contents(map[string]string{"1/model.onnx": "b"})},
			{Config: `{}`, Files: contents(map[string]string{"2/model.onnx": "b"})},
		} {
			e, err := r.Overlay(t.Context(), "m", o)
			if err != nil {
				t.Fatal(err)
			}
			if was, ok := seen[e.Fingerprint]; ok && was != i {
				t.Errorf("overrides %d and %d look the same", was, i)
			}
			seen[e.Fingerprint] = i
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d fingerprints of 6 overrides", len(seen))
	}
}
