package modelrepo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

// write makes files under dir, with the folders on the way.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path, content := range files {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, files map[string]string) (*Repo, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	r, err := Open(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

func scan(t *testing.T, r *Repo) map[string]Entry {
	t.Helper()
	entries, err := r.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Entry{}
	for i, e := range entries {
		if i > 0 && entries[i-1].Name >= e.Name {
			t.Errorf("%q comes after %q", e.Name, entries[i-1].Name)
		}
		byName[e.Name] = e
	}
	return byName
}

func TestScan(t *testing.T) {
	r, dir := open(t, map[string]string{
		"plain/1/model.onnx":                    "one",
		"plain/10/model.onnx":                   "ten",
		"plain/9/model.onnx":                    "nine",
		"plain/README.md":                       "ignored",
		"plain/11/uploading.tmp":                "no model file yet",
		"plain/01/model.onnx":                   "leading zero",
		"plain/0/model.onnx":                    "zero",
		"plain/+7/model.onnx":                   "sign",
		"plain/-7/model.onnx":                   "sign",
		"plain/1e3/model.onnx":                  "float",
		"plain/latest/model.onnx":               "word",
		"plain/99999999999999999999/model.onnx": "over 63 bits",
		"sluice/1/net.onnx":                     "",
		"sluice/2/net.onnx":                     "two",
		"sluice/3/net.onnx":                     "three",
		"sluice/config.yaml":                    "filename: net.onnx\nversion_policy: {specific: [1, 3]}\nlabels: {best: 1, old: 2}\noutputs: [{name: y, label_file: classes.txt}]",
		"sluice/classes.txt":                    "cat\r\n\ndog\n\n",
		"triton/4/model.onnx":                   "",
		"triton/config.pbtxt":                   "name: 'triton' version_policy { all {} } output { name: 'y' label_filename: 'l' }",
		"triton/l":                              "",
		"_train/1/model.onnx":                   "",
		".git/1/model.onnx":                     "",
		"README.md":                             "",
		"bad both/config.yaml":                  "",
		"bad both/config.pbtxt":                 "",
		"bad both/1/model.onnx":                 "",
		"bad yaml/config.yaml":                  "max_batchsize: 1",
		"bad pbtxt/config.pbtxt":                "backend: 'pytorch'",
		"bad name/config.yaml":                  "name: other",
		"bad name/1/model.onnx":                 "",
		"bad empty/config.yaml":                 "",
		"bad version/config.yaml":               "version_policy: {specific: [1, 2]}",
		"bad version/1/model.onnx":              "",
		"bad labels/config.yaml":                "outputs: [{name: y, label_file: classes.txt}]",
		"bad labels/1/model.onnx":               "",
		"bad text/config.yaml":                  "outputs: [{name: y, label_file: classes.txt}]",
		"bad text/classes.txt":                  "\xff",
		"bad folder/1/model.onnx/x":             "",
		"bad config/config.yaml/x":              "",
		"stats/1/model.onnx":                    "",
		"control\x01name/1/model.onnx":          "",
	})
	if err := os.Symlink(filepath.Join(dir, "plain"), filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	entries := scan(t, r)
	for name, want := range map[string]string{
		"bad both": "has both config.yaml and config.pbtxt", "bad yaml": `bad yaml/config.yaml:1: unknown key "max_batchsize"`,
		"bad pbtxt": `bad pbtxt/config.pbtxt:1: backend: must be one of onnxruntime`, "bad name": `name: must be "bad name", as the model's folder is called, got "other"`,
		"bad empty": `model "bad empty" has no version: expected bad empty/1/model.onnx`, "bad version": "version 2 of its version policy is not in the repository, which has [1]",
		"bad labels": `label file "classes.txt" is not beside`, "bad text": "is not UTF-8 text", "bad folder": "is not a regular file",
		"bad config": "is not a regular file", "stats": "/v2/models/stats", "control\x01name": "control characters",
	} {
		e, ok := entries[name]
		if !ok || e.Err == nil || !strings.Contains(e.Err.Error(), want) || e.Chosen != nil || e.Fingerprint == "" {
			t.Errorf("%q: %+v, want error %q", name, e, want)
		}
		if e.Err != nil && strings.Contains(fault.Of(e.Err).Message, dir) {
			t.Errorf("%q: %v tells where the repository is", name, e.Err)
		}
		delete(entries, name)
	}
	chosen := map[string][]int64{"plain": {10}, "linked": {10}, "sluice": {1, 3}, "triton": {4}}
	for name, e := range entries {
		if e.Err != nil || !slices.Equal(e.Chosen, chosen[name]) || e.Config.Name != name {
			t.Errorf("%q: %v, %v, want %v", name, e.Chosen, e.Err, chosen[name])
		}
		delete(chosen, name)
	}
	if len(chosen) > 0 {
		t.Errorf("missing: %v", chosen)
	}
	var numbers []int64
	for _, v := range entries["plain"].Versions {
		numbers = append(numbers, v.Number)
	}
	if !slices.Equal(numbers, []int64{1, 9, 10}) {
		t.Errorf("versions %v", numbers)
	}
	sluice := entries["sluice"].Config
	if got := sluice.Outputs[0].Labels; !slices.Equal(got, []string{"cat", "", "dog"}) {
		t.Errorf("labels %q", got)
	}
	if w := entries["sluice"].Warnings; len(w) != 1 || !strings.Contains(w[0], `label "old" names version 2, which is not served`) {
		t.Errorf("warnings %q", w)
	}
	if got := entries["triton"].Config.Outputs[0].Labels; got != nil {
		t.Errorf("labels %q of an empty file", got)
	}
}

func TestOpenAndLimits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"file": "", "a/1/model.onnx": "x", "b/1/model.onnx": "x", "b/2/model.onnx": "x"})
	for path, want := range map[string]fault.Kind{"missing": fault.NotFound, "file": fault.Invalid} {
		if _, err := Open(filepath.Join(dir, path), Limits{}); !fault.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Open(dir, Limits{Models: -1}); !fault.Is(err, fault.Invalid) {
		t.Errorf("negative limit: %v", err)
	}
	r, _ := Open(dir, Limits{Models: 1})
	if _, err := r.Scan(t.Context()); !fault.Is(err, fault.TooLarge) {
		t.Errorf("two models of one: %v", err)
	}
	r, _ = Open(dir, Limits{Versions: 1})
	entries := scan(t, r)
	if entries["a"].Err != nil || !fault.Is(entries["b"].Err, fault.TooLarge) {
		t.Errorf("two versions of one: %v, %v", entries["a"].Err, entries["b"].Err)
	}
}

func TestFind(t *testing.T) {
	r, _ := open(t, map[string]string{"m/1/model.onnx": "x", "bad/config.yaml": "x: y", "file": ""})
	if e, err := r.Find(t.Context(), "m"); err != nil || e.Name != "m" || len(e.Chosen) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	for name, want := range map[string]fault.Kind{
		"bad": fault.Invalid, "nobody": fault.NotFound, "file": fault.NotFound,
		"": fault.Invalid, "..": fault.Invalid, "../x": fault.Invalid, "m/1": fault.Invalid, ".": fault.Invalid,
	} {
		if _, err := r.Find(t.Context(), name); !fault.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Every change that matters shows in the fingerprint, and only those.
func TestFingerprint(t *testing.T) {
	r, dir := open(t, map[string]string{
		"m/1/model.onnx": "one", "m/config.yaml": "slo: 10ms\noutputs: [{name: y, label_file: l}]", "m/l": "a\nb",
		"n/1/model.onnx": "other",
	})
	fingerprint := func(name string) string { return scan(t, r)[name].Fingerprint }
	before, other := fingerprint("m"), fingerprint("n")
	if before == other || before != fingerprint("m") {
		t.Fatal("fingerprints do not tell models apart, or are not stable")
	}
	steps := []struct {
		name  string
		step  func() error
		moves bool
	}{
		{"readme", func() error { return os.WriteFile(filepath.Join(dir, "m/README"), nil, 0o644) }, false},
		{"config", func() error {
			return os.WriteFile(filepath.Join(dir, "m/config.yaml"), []byte("slo: 100ms\noutputs: [{name: y, label_file: l}]"), 0o644)
		}, true},
		{"labels", func() error { return os.WriteFile(filepath.Join(dir, "m/l"), []byte("a\nb\nc"), 0o644) }, true},
		{"model", func() error { return os.WriteFile(filepath.Join(dir, "m/1/model.onnx"), []byte("longer"), 0o644) }, true},
		{"broken config", func() error { return os.WriteFile(filepath.Join(dir, "m/config.yaml"), []byte("?"), 0o644) }, true},
		{"no config", func() error { return os.Remove(filepath.Join(dir, "m/config.yaml")) }, true},
		{"version folder", func() error { return os.Mkdir(filepath.Join(dir, "m/2"), 0o755) }, false},
		{"version", func() error { return os.WriteFile(filepath.Join(dir, "m/2/model.onnx"), nil, 0o644) }, true},
		{"swap", func() error { // same size, same time, another inode
			path := filepath.Join(dir, "m/1/model.onnx")
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", []byte("regnol"), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, true},
	}
	for _, s := range steps {
		if err := s.step(); err != nil {
			t.Fatal(err)
		}
		after := fingerprint("m")
		if (after != before) != s.moves {
			t.Errorf("%s: fingerprint changed: %t", s.name, after != before)
		}
		before = after
	}
	if fingerprint("n") != other {
		t.Error("another model's fingerprint changed")
	}
}

func TestSampleRepository(t *testing.T) {
	r, err := Open("../../../models", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	entries := scan(t, r)
	if len(entries) == 0 {
		t.Fatal("the sample repository is empty")
	}
	for name, e := range entries {
		if e.Err != nil {
			t.Errorf("%s: %v", name, e.Err)
		}
		for _, v := range e.Chosen {
			if data, err := r.Read(t.Context(), e, v); err != nil || len(data) == 0 {
				t.Errorf("%s/%d: %d bytes, %v", name, v, len(data), err)
			}
		}
	}
}
