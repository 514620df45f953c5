package main

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/loadtest/load"
)

func TestGoalLines(t *testing.T) {
	atMost := goal{name: "a", bound: 1.15, unit: "x"}
	atLeast := goal{name: "b", atLeast: true, bound: 95, unit: "%"}
	for _, tt := range []struct{ got, want string }{
		{atMost.line(1.149, true), "goal a 1.149x <=1.15x ok"},
		{atMost.line(1.15, true), "goal a 1.15x <=1.15x ok"},
		{atMost.line(1.151, true), "goal a 1.151x <=1.15x short"},
		{atMost.line(-3, true), "goal a -3x <=1.15x ok"},
		{atMost.line(0, false), "goal a unmeasured <=1.15x short"},
		{atLeast.line(95, true), "goal b 95% >=95% ok"},
		{atLeast.line(94.2, true), "goal b 94.2% >=95% short"},
		{atLeast.line(math.NaN(), true), "goal b NaN% >=95% short"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
		if n := len(strings.Fields(tt.got)); n != 5 {
			t.Errorf("%q has %d fields; scripts expect 5", tt.got, n)
		}
	}
}

func TestEveryGoalHasAPart(t *testing.T) {
	for _, g := range goals {
		if _, err := choose(g.part); err != nil {
			t.Errorf("goal %s: %v", g.name, err)
		}
	}
	var out bytes.Buffer
	r := &report{out: &out, measured: map[string]float64{"ready": 1}}
	r.goals(parts)
	if n := strings.Count(out.String(), "\ngoal "); n != len(goals) {
		t.Errorf("%d goal lines for %d goals:\n%s", n, len(goals), out.String())
	}
}

func TestChoose(t *testing.T) {
	t.Setenv(envClickHouse, "")
	if all, err := choose(""); err != nil || len(all) != len(parts)-1 {
		t.Errorf("%d parts, %v", len(all), err)
	}
	if two, err := choose("json, rows"); err != nil || len(two) != 2 || two[1].name != "rows" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := choose("json,speed"); err == nil || !strings.Contains(err.Error(), "overload") {
		t.Errorf("an unknown part must be refused with the known ones, got %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 1, 100}, 5}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestBadFlagsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for _, args := range [][]string{
		{"-only", "nothing"}, {"-rounds", "7"}, {"latency"}, {"-short", "latency", "-only", "noop"},
		{"-with", "GOGC"}, {"-with", "=7"}, {"-profile", filepath.Join(t.TempDir(), "nothing")},
	} {
		if err := run(t.Context(), args, new(bytes.Buffer)); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

// What was not sent took for ever: a p99 is that of all that was due.
func TestOfDue(t *testing.T) {
	answered := func(n, unsent int) *load.Result {
		r := &load.Result{Latency: &load.Histogram{}, Due: n + unsent, Unsent: unsent}
		r.OK = n
		for i := range n {
			r.Latency.Record(time.Duration(i+1) * time.Millisecond)
		}
		return r
	}
	for _, c := range []struct {
		n, unsent int
		least     float64
		most      float64
	}{{1000, 0, 980, 1000}, {1000, 9, 990, 1010}, {1000, 11, math.Inf(1), math.Inf(1)}, {0, 5, math.Inf(1), math.Inf(1)}} {
		if got := ofDue(answered(c.n, c.unsent), .99); got < c.least || got > c.most {
			t.Errorf("%d answered and %d unsent: p99 %v", c.n, c.unsent, got)
		}
	}
}
