package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file of results has the format that its name says, or none is asked for.
func TestResultsHaveTheFormatOfTheirFile(t *testing.T) {
	folder := t.TempDir()
	rows := filepath.Join(folder, "rows.csv")
	if err := os.WriteFile(rows, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ line, file, want string }{
		{"batch submit " + rows + " -m iris --out ", "r.parquet", "results?format=parquet"},
		{"batch submit " + rows + " -m iris --results csv,xlsx --out ", "r.XLSX", "results?format=xlsx"},
		{"batch submit " + rows + " -m iris --results csv,xlsx --out ", "r", "results"},
		{"batch results batch_1 --out ", "s.csv", "results?format=csv"},
		{"batch results batch_1 --format csv --out ", "s.txt", "results?format=csv"},
		{"batch results batch_1 --errors --out ", "errors.csv", "errors"},
		{"batch results batch_1 --out ", "s.csv.gz", "results"},
	} {
		out := filepath.Join(folder, tc.file)
		if _, errs, code := sluice(t, "", strings.Fields(tc.line+out)...); code != exitOK {
			t.Errorf("%s: %s", tc.line, errs)
		}
		if b, err := os.ReadFile(out); string(b) != tc.want {
			t.Errorf("%s%s has %q, %v", tc.line, tc.file, b, err)
		}
	}
	in := batchFlags{out: "r.parquet", ratio: 1}
	body, err := in.body("rows.bin", time.Time{})
	if made, ok := body["output"].(object); err != nil || !ok || made["formats"].([]string)[0] != "parquet" || len(body) != 1 {
		t.Errorf("%v, %v", body, err)
	}
}

// A deadline that is so long from now is a time.
func TestUntil(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for text, want := range map[string]string{"": "", "90m": "2030-01-02T03:34:05Z", "2030-05-06T07:08:09+02:00": "2030-05-06T07:08:09+02:00"} {
		if got, err := until(text, now); got != want || err != nil {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"0s", "-1h", "2030-01-02", "soon", "2030-01-02T03:04:05+01:00"} {
		if got, err := until(text, now); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}
