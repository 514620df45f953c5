package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nativeFolders have the code of the native API's own operations.
var nativeFolders = []string{
	"inference/api", "inference/rollout", "inference/rollout/rollouthttp", "inference/registry", "inference/registry/registryhttp", "inference/evaluation",
	"inference/evaluation/evaluationhttp", "inference/experiment", "inference/release", "inference/usage", "inference/feature/featurehttp", "inference/record/recordhttp",
	"batch/api", "batch/ingest", "batch/export/exporthttp", "batch/export/schedule",
	"platform/admin", "platform/feed", "platform/feed/feedhttp", "platform/upload", "platform/upload/uploadhttp",
}

// unseen are codes that no client meets: of events that are read again, of commands of the
// platform's own, and of what starts or feeds a stream.
var unseen = []string{"feed_config_invalid", "feed_without_tenant", "stream_ended", "history_differs", "message_malformed", "release_overtaken", "evaluation_lost", "lease_lost", "trial_failed"}

var codeIn = regexp.MustCompile(`WithCode\("([a-z_]+)"\)`)

// Every failure of the native API is described, with what the client can do about it.
func TestCatalogIsComplete(t *testing.T) {
	catalog, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, folder := range nativeFolders {
		files, err := filepath.Glob(filepath.Join("..", "..", "internal", folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no files: %v", folder, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range codeIn.FindAllStringSubmatch(string(text), -1) {
				found++
				if _, described := catalog.Lookup(m[1]); !described && !slices.Contains(unseen, m[1]) {
					t.Errorf("%s: nothing says what to do about %q: add it to the package's Problems", name, m[1])
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d codes: the test looks in the wrong places", found)
	}
}
