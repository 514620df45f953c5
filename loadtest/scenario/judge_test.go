package scenario

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/loadtest/load"
)

// seen is a run of traffic x in two phases of ten seconds, of which each sample was seen.
func seen(samples ...load.Sample) *run {
	s := &Scenario{Phases: []Phase{{"before", 10 * time.Second}, {"after", 10 * time.Second}}}
	r := &run{s: s, series: map[string]*Series{"x": newSeries(s, &Traffic{Name: "x"}, time.Unix(0, 0))}}
	for _, sample := range samples {
		r.series["x"].record(sample)
	}
	return r
}

// every is a thousand samples of one outcome, over a phase.
func every(phase int, outcome load.Outcome, latency time.Duration) (list []load.Sample) {
	for i := range 1000 {
		list = append(list, load.Sample{Due: time.Unix(int64(10*phase), 0).Add(time.Duration(i) * 10 * time.Millisecond), Outcome: outcome, Latency: latency})
	}
	return list
}

func limit(v float64) *float64 { return &v }

// judged is the verdict of an assertion of x in the phase after.
func (r *run) judged(metric, relativeTo string, most float64) Verdict {
	return r.judge(Assertion{Metric: metric, Of: "x", Phase: "after", RelativeTo: relativeTo, AtMost: &most})
}

// Where nothing was answered, nothing holds that is about answers, whatever became of the requests.
func TestNothingHoldsOfNoAnswers(t *testing.T) {
	for _, outcome := range []load.Outcome{load.Refused, load.Failed, load.Unsent} {
		r := seen(append(every(0, load.OK, time.Millisecond), every(1, outcome, time.Millisecond)...)...)
		for _, metric := range []string{"p50", "p90", "p99", "p999", "max", "first_p99", "served_p99"} {
			for _, relativeTo := range []string{"", "before"} {
				if v := r.judged(metric, relativeTo, 1e9); v.Holds || v.Unmeasured == "" {
					t.Errorf("%s where all were of outcome %d: %+v", v.Assertion, outcome, v)
				}
			}
		}
		if v := r.judged("recovery", "before", 1e9); v.Holds || v.Unmeasured != "nothing was answered" {
			t.Errorf("outcome %d: %+v", outcome, v)
		}
	}
	r := seen(append(every(0, load.Refused, time.Millisecond), every(1, load.OK, time.Millisecond)...)...)
	for _, metric := range []string{"p99", "recovery"} {
		if v := r.judged(metric, "before", 1e9); v.Holds || v.Unmeasured != "in before: nothing was answered" {
			t.Errorf("%+v", v)
		}
	}
	if v := r.judge(Assertion{Metric: "goodput", Of: "x", Phase: "after", RelativeTo: "before", AtLeast: limit(2)}); v.Holds {
		t.Errorf("a multiple of nothing: %+v", v)
	}
	if v := r.judged("refusal_p99", "", 10); v.Holds {
		t.Errorf("nothing was refused: %+v", v)
	}
	r = seen(every(0, load.OK, time.Millisecond)...)
	for _, metric := range []string{"p99", "failed", "refused", "unsent", "goodput_share"} {
		if v := r.judged(metric, "", 1e9); v.Holds || v.Unmeasured != "nothing was due" {
			t.Errorf("%+v", v)
		}
	}
	for _, metric := range []string{"memory", "memory_growth"} {
		if v := r.judge(Assertion{Metric: metric, Phase: "after", RelativeTo: map[string]string{"memory_growth": "before"}[metric], AtMost: limit(1e9)}); v.Holds {
			t.Errorf("memory that nobody has measured: %+v", v)
		}
	}
}

// What was not sent, and what failed, is later than every answer, and nothing that was refused.
func TestWhatIsLostIsLate(t *testing.T) {
	with := func(outcome load.Outcome, n int) *run {
		list := every(1, load.OK, 10*time.Millisecond)
		for i := range n {
			list[i*1000/n].Outcome = outcome
		}
		return seen(list...)
	}
	for _, tt := range []struct {
		outcome load.Outcome
		n       int
		metric  string
		holds   bool
	}{
		{load.Unsent, 0, "max", true}, {load.Unsent, 1, "max", false},
		{load.Unsent, 9, "p99", true}, {load.Unsent, 11, "p99", false}, {load.Failed, 11, "p99", false},
		{load.Unsent, 175, "p50", true}, {load.Unsent, 175, "p90", false},
		{load.Refused, 900, "p99", true}, {load.Refused, 900, "max", true},
	} {
		v := with(tt.outcome, tt.n).judged(tt.metric, "", 10.1)
		if v.Holds != tt.holds {
			t.Errorf("%s with %d of outcome %d: %+v", tt.metric, tt.n, tt.outcome, v)
		}
		if !tt.holds && (!strings.HasPrefix(v.measured(), "above 10 ms: of 1000 due ") || v.Measured != 0) {
			t.Errorf("%s says %q", tt.metric, v.measured())
		}
	}
	f := figure("after", 10*time.Second, &with(load.Unsent, 50).series["x"].phases[1])
	if strings.Join(f.AtLeast, " ") != "p99_ms p999_ms max_ms" || f.known("p99_ms", f.P99, Spread{}) != "> 10" || f.known("p90_ms", f.P90, Spread{}) != "10" {
		t.Errorf("a twentieth was unsent: %+v", f)
	}
}

// Some latencies are lost in the middle of the tail: the quantile moves up by as many.
func TestLostOnesMoveQuantiles(t *testing.T) {
	var h load.Histogram
	for ms := range 100 {
		h.Record(time.Duration(ms+1) * time.Millisecond)
	}
	if at, beyond := h.Beside(100, .25); beyond || at < 49*time.Millisecond || at > 51*time.Millisecond {
		t.Errorf("a quarter of twice as many: %s, %t", at, beyond)
	}
	if at, beyond := h.Beside(100, .51); !beyond || at != 100*time.Millisecond {
		t.Errorf("more than there are: %s, %t", at, beyond)
	}
	if at, beyond := new(load.Histogram).Beside(0, .5); beyond || at != 0 {
		t.Errorf("of nothing: %s, %t", at, beyond)
	}
}

// What never comes back fails, also where the limit is longer than the phase.
func TestARecoveryThatNeverComesFails(t *testing.T) {
	normal, slow := every(0, load.OK, time.Millisecond), every(1, load.OK, time.Second)
	if v := seen(append(normal, slow...)...).judged("recovery", "before", 60); v.Holds || v.Unmeasured != "it never came in 10s" {
		t.Errorf("%+v", v)
	}
	if v := seen(append(normal, every(1, load.OK, time.Millisecond)...)...).judged("recovery", "before", 0); !v.Holds {
		t.Errorf("it is normal from the first second on: %+v", v)
	}
	r := seen(append(normal, every(1, load.OK, time.Millisecond)...)...)
	r.s.Phases[1].For, r.series["x"].ends[1] = 900*time.Millisecond, 10900*time.Millisecond
	if v := r.judged("recovery", "before", 60); v.Holds {
		t.Errorf("a phase that has no second as a whole: %+v", v)
	}
}

// Slack excuses what is a little more; where there is none, a limit below one is one, too.
func TestSlackIsWhatIsTooLittleToMatter(t *testing.T) {
	r := seen(append(every(0, load.OK, 10*time.Millisecond), every(1, load.OK, 9*time.Millisecond)...)...)
	for _, tt := range []struct {
		most, slack float64
		holds       bool
	}{{.5, 0, false}, {.95, 0, true}, {.5, 1, true}} {
		if v := r.judge(Assertion{Metric: "p99", Of: "x", Phase: "after", RelativeTo: "before", AtMost: &tt.most, Slack: tt.slack}); v.Holds != tt.holds {
			t.Errorf("9 ms beside 10, slack %v: %+v", tt.slack, v)
		}
	}
}

// A server that is down but for its metadata fails what is asserted of it, and the report says why.
func TestAServerThatAnswersNothingFails(t *testing.T) {
	answered := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/models/m", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}]}`)
	})
	mux.HandleFunc("POST /v2/models/m/infer", func(w http.ResponseWriter, _ *http.Request) {
		if answered++; answered > 8 { // each request is rehearsed
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"outputs":[]}`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	s, err := Parse([]byte(`
name: down
phases: [{name: before, for: 300ms}, {name: after, for: 300ms}]
traffic: [{name: x, model: m, protocol: json, rate: {all: 50}, connections: 1}]
assert:
  - {metric: p99, of: x, phase: after, at_most: 5}
  - {metric: p99, of: x, phase: after, relative_to: before, at_most: 1.1}
  - {metric: recovery, of: x, phase: after, relative_to: before, at_most: 10}
`))
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), s, Options{HTTP: srv.Listener.Addr().String(), Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Verdicts {
		if v.Holds || !strings.Contains(v.Unmeasured, "nothing was answered") {
			t.Errorf("%+v", v)
		}
	}
	if lines := report.Lines(); strings.Count(lines, "nothing was answered") != 3 || !strings.Contains(report.Markdown(), "| nothing was answered |") {
		t.Errorf("%s%s", lines, report.Markdown())
	}
}
