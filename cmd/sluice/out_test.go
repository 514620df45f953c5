package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where the file cannot be written, nothing is asked of the server.
func TestOutIsLookedAtFirst(t *testing.T) {
	folder := t.TempDir()
	rows := filepath.Join(folder, "rows.csv")
	if err := os.WriteFile(rows, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		w.WriteHeader(http.StatusNotFound)
	}))
	defer s.Close()
	for out, says := range map[string]string{filepath.Join(folder, "none", "x.csv"): "x.csv cannot be written: no such file", folder: "is a folder"} {
		for _, line := range []string{"export usage --format csv --out", "export get exp_1", "batch submit " + rows + " -m iris --out", "batch results batch_1 --out",
			"download /v1/x --out", "models evaluate iris --candidate 3 --out", "models evaluations get eval_1"} {
			var o, e bytes.Buffer
			asked = false
			code := run(t.Context(), append(strings.Fields(line), out), []string{"SLUICE_CLIENT_URL=" + s.URL}, terminal{nil, &o, &e, false})
			if code != exitUsage || asked || !strings.Contains(e.String(), says) {
				t.Errorf("%s %s: exit %d, %q, the server was asked: %v", line, out, code, e.String(), asked)
			}
		}
	}
	if left, err := os.ReadDir(folder); len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// What is no file is written to, and not replaced.
func TestDownloadToADevice(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Symlink(os.DevNull, out); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := sluice(t, "", "download", "/v1/predictions/pred_1/output", "--out", out); code != exitOK {
		t.Fatal(errs)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}
