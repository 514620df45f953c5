package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const scenarioFile = `
name: NAME
phases: [{name: one, for: 1s}]
traffic: [{name: x, model: m, protocol: json, rate: {all: 20}}]
assert: [{metric: p99, of: x, at_most: 100}]
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever can be known to be wrong before is said before anything is built, started or measured.
func TestWhatIsWrongIsSaidBeforeAnythingRuns(t *testing.T) {
	one := write(t, "one.yaml", strings.Replace(scenarioFile, "NAME", "a", 1))
	same := write(t, "same.yaml", strings.Replace(scenarioFile, "NAME", "a", 1))
	slip := write(t, "slip.yaml", strings.Replace(scenarioFile, "NAME", "b\nserver: {models: [{name: wirter}]}", 1))
	brief := filepath.Dir(write(t, "a.json", `{"scenario":"a","traffic":[{"name":"x","phases":[{"name":"one","seconds":1,"due":20,"ok":20,"good":20}]}]}`))
	file := write(t, "file", "")
	for _, tt := range []struct{ args, want string }{
		{"-url 10.0.0.1:80 " + one, "-url: load: target \"10.0.0.1:80\" is not a loopback address"},
		{"-url http://example.com " + one, "-url"},
		{"-url 127.0.0.1 " + one, "missing port"},
		{"-url localhost:1 -grpc 10.0.0.1:80 " + one, "-grpc: load: target"},
		{"-url https://127.0.0.1:8443 " + one, "-url https://127.0.0.1:8443: there is no TLS"},
		{"-url 127.0.0.1:1 -grpc https://127.0.0.1:8443 " + one, "-grpc https://127.0.0.1:8443: there is no TLS"},
		{"-server /bin/true -out " + t.TempDir() + " " + one, `no model in server.models "m"`},
		{"-server /bin/true -out " + t.TempDir() + " " + slip, `there is no model "wirter"`},
		{"-url 127.0.0.1:1 -against " + brief + " -out " + t.TempDir() + " " + one, "no phase is as long as before and takes 6 seconds"},
		{"-grpc 127.0.0.1:1 " + one, "-grpc is the second address"},
		{"-url 127.0.0.1:1 -server /bin/true " + one, "name one of them"},
		{"-out " + file + " -url 127.0.0.1:1 " + one, "-out: "},
		{"-against " + t.TempDir() + " -url 127.0.0.1:1 -out " + t.TempDir() + " " + one, "-against: "},
		{"-url 127.0.0.1:1 " + one + " " + same, "both named a"},
		{"-url 127.0.0.1:1 " + file, "no documents"},
		{"-url 127.0.0.1:1 " + one + ".none", "no such file"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), strings.Fields(tt.args), &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.args, err, tt.want)
		}
		if strings.Contains(out.String(), "==") {
			t.Errorf("%s: a scenario began: %s", tt.args, &out)
		}
	}
}

// Who asks for help has no error.
func TestHelpIsNoError(t *testing.T) {
	if err := run(t.Context(), []string{"-h"}, io.Discard); err != nil {
		t.Error(err)
	}
}

// Addresses are taken as people write them.
func TestAServerThatIsNotThereIsAnError(t *testing.T) {
	one := write(t, "one.yaml", strings.Replace(scenarioFile, "NAME", "a", 1))
	for _, url := range []string{"http://localhost:1/", "127.0.0.1:1"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-url", url, "-out", t.TempDir(), one}, &out); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 cannot be reached") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
