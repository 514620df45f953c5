package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/loadtest/load"
)

func TestMain(m *testing.M) {
	if os.Getenv(envNode) != "" {
		serveNode()
		return
	}
	goleak.VerifyTestMain(m)
}

// Every scenario of the repository can be read, and names what there is.
func TestScenariosOfTheRepository(t *testing.T) {
	files, err := filepath.Glob("../scenarios/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		s, err := Read(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name+".yaml" != filepath.Base(file) || s.About == "" {
			t.Errorf("%s is named %q, and about %q", file, s.Name, s.About)
		}
		for _, m := range s.Server.Models {
			_, own := os.Stat("../models/" + m.Name)
			if _, sample := os.Stat("../../models/" + m.Name); own != nil && sample != nil {
				t.Errorf("%s: there is no model %s", file, m.Name)
			}
		}
	}
}

const good = `
name: a
capacity: {of: x, connections: 2, for: 100ms}
phases: [{name: one, for: 1s}, {name: two, for: 2s}]
traffic: [{name: x, model: m, protocol: binary, rate: {one: 20, two: 0.5x}}]
assert: [{metric: p99, of: x, phase: two, relative_to: one, at_most: 1.1, slack: 5}]
`

func TestWhatIsWrongIsSaid(t *testing.T) {
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for old, bad := range map[string][2]string{
		"protocol: binary":          {"protocol: carrier-pigeon", "no protocol \"carrier-pigeon\""},
		"0.5x":                      {"fast", "a rate is a number"},
		"one: 20":                   {"one: -1", "a rate is a number"},
		"two: 0.5x":                 {"twoo: 5", `did you mean "two"`},
		"capacity: {of: x":          {"capacity: {of: y", "capacity"},
		"metric: p99":               {"metric: p98", "no metric"},
		"of: x, phase":              {"phase", "of some traffic"},
		"of: x, phas":               {"of: xx, phas", `did you mean "x"`},
		"at_most: 1.1":              {"at_least: 1, at_most: 1.1", "either"},
		"phase: two":                {"phase: tow", `did you mean "two"`},
		"phase: two, rel":           {"phase: none, rel", "no phase"},
		"relative_to: one":          {"relative_to: on", `did you mean "one"`},
		"two: 0.5x}":                {"two: 0}", "no rate in phase two"},
		"{one: 20, two":             {"{two", "no rate in phase one"},
		"metric: p99, of: x, phase": {"metric: first_p99, of: x, phase", "have no events"},
		"{metric: p99, of: x, phase: two, relative_to: one, at_most": {"{metric: recovery, of: x, phase: two, relative_to: one, at_least", "at_most so many"},
		"at_most: 1.1, sl":             {"at_most: .inf, sl", "must be a number"},
		"for: 2s":                      {"for: 0s", "it needs a name"},
		"model: m":                     {"modell: m", "modell"},
		"assert: [{":                   {"actions: [{do: restart, phase: one}]\nassert: [{", "second node"},
		"name: a":                      {"name: a\nserver: {tenants: [t]}", "one of the tenants"},
		"protocol: binary, rate":       {"protocol: slow, rate", "trickle"},
		"\nname: a\n":                  {"\nname: ../a\n", "reports' files"},
		"name: two":                    {"name: one", "twice"},
		"traffic: [":                   {"traffic: [{name: x, model: m, protocol: json, rate: {all: 1}}, ", "twice"},
		"for: 1s}":                     {"for: 59m59s}", "loadtest/soak"},
		"for: 1s},":                    {"for: 1000000h},", "at most 1h"},
		"one: 20, two: 0.5x":           {"all: 0", "above 0"},
		"one: 20, two: 0.5":            {"one: 2000000, two: 0.5", "more than the generator can send"},
		", rate: {one: 20, two: 0.5x}": {"", "above 0"},
		"model: m, protocol":           {"model: m, connections: 2000000000, protocol", "65536 connections"},
		"model: m, protocol: b":        {"model: m, rows: [0], protocol: b", "1 to 1048576"},
		"m, protocol: binary":          {"m, tokens: [-4], protocol: binary", "1 to 1048576"},
		"x, model: m":                  {"x, model: m, slo: -50ms", "below 0"},
		"m, protocol: bi":              {"m, body: '{}', protocol: bi", "have no body"},
		"m, protocol: binar":           {"m, burst: {every: 2ns, for: 1ns, factor: 3}, protocol: binar", "a burst takes"},
		"m, protocol: bina":            {"m, burst: {every: 2s, for: 1s, factor: -3}, protocol: bina", "a burst takes"},
		", at_most: 1.1":               {", at_most: .nan", "must be a number"},
	} {
		text := strings.Replace(good, old, bad[0], 1)
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), bad[1]) {
			t.Errorf("%s: got %v, want an error with %q", bad[0], err, bad[1])
		}
	}
}

func TestBurstsAreWithinTheirPhase(t *testing.T) {
	s, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	s.Traffic[0].Burst = &Burst{Every: 700 * time.Millisecond, For: 200 * time.Millisecond, Factor: 3}
	total, high := time.Duration(0), time.Duration(0)
	for _, step := range s.steps(&s.Traffic[0], 40) {
		total += step.For
		if step.Rate == 60 { // three times 20, whether it is said or half of the capacity
			high += step.For
		} else if step.Rate != 20 {
			t.Errorf("a rate of %v", step.Rate)
		}
	}
	if total != s.length() || high != (2+3)*200*time.Millisecond {
		t.Errorf("%s in all and %s of bursts in %s", total, high, s.length())
	}
}

func TestRecoveryIsTheLastSecondThatIsNotNormal(t *testing.T) {
	s := &Scenario{Phases: []Phase{{"before", 3 * time.Second}, {"storm", 2 * time.Second}, {"after", 6 * time.Second}}}
	begin := time.Now()
	r := newSeries(s, &Traffic{}, begin)
	for second, ms := range []int{5, 10, 7, 500, 500, 90, 11, 12, 10, 11, 9} { // normal is up to 11
		r.record(load.Sample{Due: begin.Add(time.Duration(second) * time.Second), Latency: time.Duration(ms) * time.Millisecond})
	}
	if got, came := r.recovery(2, 0); got != 3*time.Second || !came {
		t.Errorf("recovered after %s, %t, want 3 s", got, came)
	}
	r.record(load.Sample{Due: begin.Add(10 * time.Second), Outcome: load.Refused})
	if got, came := r.recovery(2, 0); came {
		t.Errorf("recovered after %s of 6 s, although the last second refuses", got)
	}
	if r.phases[0].OK != 3 || r.phases[1].OK != 2 || r.phases[2].OK != 6 || r.phases[2].Due != 7 {
		t.Errorf("phases have %d, %d and %d", r.phases[0].OK, r.phases[1].OK, r.phases[2].OK)
	}
}

// A queue that fills in one phase is the next one's to answer, and a single slow request of
// hundreds is no storm that goes on; eight are.
func TestWhatCountsIsWhenAnswersCameAndNotOneOfThem(t *testing.T) {
	s := &Scenario{Phases: []Phase{{"before", 2 * time.Second}, {"fills", 2 * time.Second}, {"after", 3 * time.Second}}}
	begin := time.Now()
	r := newSeries(s, &Traffic{}, begin)
	add := func(at, latency time.Duration) { r.record(load.Sample{Due: begin.Add(at), Latency: latency}) }
	for i := range 700 {
		add(time.Duration(i)*10*time.Millisecond, 5*time.Millisecond)
	}
	add(3500*time.Millisecond, 700*time.Millisecond)
	if got := [3]int{r.phases[0].Ended, r.phases[1].Ended, r.phases[2].Ended}; got != [3]int{200, 200, 301} {
		t.Errorf("the phases answered %v in time", got)
	}
	add(6500*time.Millisecond, 90*time.Millisecond)
	if got, came := r.recovery(2, 0); got != 0 || !came {
		t.Errorf("one slow request of 301: recovered after %s, %t", got, came)
	}
	for range 7 {
		add(6500*time.Millisecond, 90*time.Millisecond)
	}
	if got, came := r.recovery(2, 0); came {
		t.Errorf("eight slow requests of 308, at the end: recovered after %s", got)
	}
}

// A second in which most are slow is none of normal times, though it has few of all that is still due.
func TestASlowSecondIsNotNormal(t *testing.T) {
	s := &Scenario{Phases: []Phase{{"before", 10 * time.Second}, {"after", 20 * time.Second}}}
	begin := time.Now()
	r := newSeries(s, &Traffic{}, begin)
	for i := range 300 {
		latency := 50 * time.Millisecond
		if i == 100 || i == 101 || i == 102 || i == 111 {
			latency = 500 * time.Millisecond
		}
		r.record(load.Sample{Due: begin.Add(time.Duration(i) * 100 * time.Millisecond), Latency: latency})
	}
	if got, came := r.recovery(1, 0); got != time.Second || !came {
		t.Errorf("recovered after %s, %t, want 1 s", got, came)
	}
}

// copier answers with the input, after a while, and refuses now and then.
func copier(delay *atomic.Int64, wrong *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/models/m", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}]}`)
	})
	mux.HandleFunc("POST /v2/models/m/infer", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Inputs []map[string]json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Inputs) != 1 {
			http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
			return
		}
		time.Sleep(time.Duration(delay.Load()))
		if wrong.Load() {
			in.Inputs[0]["data"] = json.RawMessage(`[7,7]`)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"outputs": in.Inputs})
	})
	return mux
}

// A whole run against a server that is there: it measures the capacity, finds
// what does not hold, sees wrong answers, and writes its report.
func TestARunAgainstAnyServer(t *testing.T) {
	var delay atomic.Int64
	var wrong atomic.Bool
	srv := httptest.NewServer(copier(&delay, &wrong))
	t.Cleanup(srv.Close)
	text := `
name: whole
capacity: {of: x, connections: 1, for: 200ms}
phases: [{name: one, for: 1s}, {name: two, for: 1s}]
traffic: [{name: x, model: m, protocol: json, rate: {all: 50}, slo: 10s, connections: 8}]
assert:
  - {metric: success, of: x, at_least: 1}
  - {metric: success, of: x, phase: one, at_least: 2}
  - {metric: p50, of: x, phase: two, at_least: 20}
  - {metric: goodput, of: x, at_least: 10}
  - {metric: memory, at_most: 100}
`
	s, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	delay.Store(int64(20 * time.Millisecond))
	o := Options{HTTP: srv.Listener.Addr().String(), Folder: t.TempDir()}
	report, err := Run(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Verdicts) != 4 { // nothing is known of a foreign server's memory, which therefore neither holds nor fails
		t.Errorf("%d verdicts: %+v", len(report.Verdicts), report.Verdicts)
	}
	for i, want := range []bool{true, false, true, true} {
		if v := report.Verdicts[i]; v.Holds != want {
			t.Errorf("%s: measured %v, holds: %t", v.Assertion, v.Measured, v.Holds)
		}
	}
	if report.Holds() || report.Capacity < 1 || report.Capacity > 50 {
		t.Errorf("holds: %t, capacity %.1f", report.Holds(), report.Capacity)
	}
	folder := t.TempDir()
	if err := report.Write(folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whole.json", "whole.md", "whole-latency.svg", "whole-rate.svg"} {
		if b, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(b) < 200 {
			t.Errorf("%s has %d bytes, %v", name, len(b), err)
		}
	}
}

func TestWrongAnswersFail(t *testing.T) {
	var delay atomic.Int64
	var wrong atomic.Bool
	srv := httptest.NewServer(copier(&delay, &wrong))
	t.Cleanup(srv.Close)
	w, err := start(t.Context(), &Scenario{}, Options{HTTP: srv.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := w.prepare(t.Context(), &Traffic{Name: "x", Model: "m", Protocol: "json", Rows: []int{1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.pool.Close()
	wrong.Store(true)
	if r := tr.pool.Closed(t.Context(), tr.load, 20*time.Millisecond); r.Failed == 0 || r.Checked == 0 {
		t.Errorf("%d failed of %d checked, %v", r.Failed, r.Checked, r.Err)
	}
}

// A rate is refused that the generator cannot send, also as a multiple of what was measured.
func TestRatesBeyondTheGeneratorAreRefused(t *testing.T) {
	s, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.checkLoad(1000); err != nil {
		t.Error(err)
	}
	if err := s.checkLoad(3e6); err == nil || !strings.Contains(err.Error(), "more than the generator can send") {
		t.Errorf("1.5 million a second: %v", err)
	}
}

func TestScenariosThatNeedOurServerSaySo(t *testing.T) {
	s, err := Read("../scenarios/low.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), s, Options{HTTP: "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "-grpc") {
		t.Errorf("gRPC without its address: %v", err)
	}
	for _, name := range []string{"rolling-restart", "noisy-tenant"} {
		s, err := Read("../scenarios/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), s, Options{HTTP: "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "cannot run against") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err = Read("../scenarios/samples.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := s.Fits(Options{HTTP: "127.0.0.1:1"}); err != nil {
		t.Error(err)
	}
	s.Assert = []Assertion{{Metric: "memory"}, {Metric: "memory_growth"}} // of which nothing would be judged
	if err := s.Fits(Options{HTTP: "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "nothing but memory") {
		t.Errorf("it holds, since nothing is asserted: %v", err)
	}
}
