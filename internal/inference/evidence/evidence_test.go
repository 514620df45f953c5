package evidence

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// everything is a policy with all guardrails.
func everything() Policy {
	return Policy{
		Alpha: 0.05, MinRequests: 1000,
		ErrorRate: &ErrorRate{Worse: 0.01}, Latency: &Latency{Quantile: 0.99, Ratio: 1.5}, Quality: &Quality{Worse: 0.05, MinLabels: 200},
		Agreement:   &Agreement{MaxFlips: 0.1},
		SampleRatio: &SampleRatio{Alpha: 0.001}, Drift: &Drift{MaxPSI: 0.25},
	}
}

// serve is n requests of an arm that fails a share of them and whose latencies
// have a median, with a label for every second.
func serve(r *rand.Rand, n int, failures float64, median time.Duration, quality float64) Numbers {
	out := Numbers{Latency: new(histogram.Histogram)}
	for i := range n {
		out.Requests.N++
		if r.Float64() < failures {
			out.Requests.Hits++
			continue
		}
		out.Latency.Add(time.Duration(float64(median) * math.Exp(0.5*r.NormFloat64())))
		if i%2 == 0 {
			label := 0.0
			if r.Float64() < quality {
				label = 1
			}
			out.Quality.Add(label)
		}
	}
	return out
}

func measured(b, c Numbers) Measured {
	return Measured{
		Baseline: b, Candidate: c,
		Units:   []sequential.Ratio{{Counts: []int64{b.Requests.N, c.Requests.N}, Weights: []float64{0.5, 0.5}}},
		Answers: sequential.Count{N: 5000, Hits: 300},
		Scores:  &drift.Distance{Reference: 5000, Window: 5000, ReferenceSamples: 5000, WindowSamples: 5000, PSI: 0.02, Noise: 0.004},
	}
}

func verdicts(t *testing.T, p Policy, m Measured) (Verdict, map[string]Verdict) {
	t.Helper()
	j, err := Judge(p, m)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Verdict{}
	for _, f := range j.Findings {
		out[f.Guardrail] = f.Verdict
	}
	return j.Verdict, out
}

// Each thing that is worse fails its guardrail and no other, and with it the
// whole; what is alike passes.
func TestEachGuardrail(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const n = 30_000
	good := func() Numbers { return serve(r, n, 0.02, 20*time.Millisecond, 0.9) }
	skewed := measured(good(), good())
	skewed.Units[0].Counts = []int64{16_000, 14_000}
	drifted := measured(good(), good())
	drifted.Scores = &drift.Distance{Reference: 5000, Window: 5000, ReferenceSamples: 5000, WindowSamples: 5000, PSI: 0.5, Noise: 0.01}
	flipped := measured(good(), good())
	flipped.Answers.Hits = 700
	for name, m := range map[string]Measured{
		"":             measured(good(), good()),
		"error_rate":   measured(good(), serve(r, n, 0.06, 20*time.Millisecond, 0.9)),
		"latency":      measured(good(), serve(r, n, 0.02, 45*time.Millisecond, 0.9)),
		"quality":      measured(good(), serve(r, n, 0.02, 20*time.Millisecond, 0.75)),
		"sample_ratio": skewed,
		"drift":        drifted,
		"agreement":    flipped,
	} {
		verdict, found := verdicts(t, everything(), m)
		if want := map[bool]Verdict{true: Pass, false: Fail}[name == ""]; verdict != want {
			t.Errorf("%q: the verdict is %s, want %s", name, verdict, want)
		}
		for guardrail, v := range found {
			if want := map[bool]Verdict{true: Fail, false: Pass}[guardrail == name]; v != want {
				t.Errorf("%q: %s says %s, want %s", name, guardrail, v, want)
			}
		}
		if len(found) != 6 {
			t.Errorf("%q: only %v were asked", name, found)
		}
	}
}

// Whatever is missing, nothing passes; and what is there is no error.
func TestNoDataNeverPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	full := func() Numbers { return serve(r, 30_000, 0.02, 20*time.Millisecond, 0.9) }
	without := func(change func(m *Measured)) Measured {
		m := measured(full(), full())
		change(&m)
		return m
	}
	for name, c := range map[string]struct {
		m         Measured
		undecided []string
	}{
		"nothing":            {Measured{}, []string{"error_rate", "latency", "quality", "sample_ratio", "drift"}},
		"no candidate":       {without(func(m *Measured) { m.Candidate = Numbers{} }), []string{"error_rate", "latency", "quality", "sample_ratio", "drift"}},
		"no baseline":        {without(func(m *Measured) { m.Baseline = Numbers{} }), []string{"error_rate", "latency", "quality", "sample_ratio", "drift"}},
		"no latencies":       {without(func(m *Measured) { m.Candidate.Latency = nil }), []string{"latency"}},
		"no baseline's":      {without(func(m *Measured) { m.Baseline.Latency = nil }), []string{"latency"}},
		"no labels":          {without(func(m *Measured) { m.Candidate.Quality = sequential.Moments{} }), []string{"quality"}},
		"few labels":         {without(func(m *Measured) { m.Candidate.Quality = sequential.Moments{N: 199, Mean: 1, M2: 1} }), []string{"quality"}},
		"labels all alike":   {without(func(m *Measured) { m.Candidate.Quality.M2, m.Baseline.Quality.M2 = 0, 0 }), []string{"quality"}},
		"no answers":         {without(func(m *Measured) { m.Answers = sequential.Count{} }), []string{"agreement"}},
		"no units":           {without(func(m *Measured) { m.Units = nil }), []string{"sample_ratio"}},
		"no scores":          {without(func(m *Measured) { m.Scores = nil }), []string{"drift"}},
		"few scores":         {without(func(m *Measured) { m.Scores = &drift.Distance{Reference: 1000, Window: 10} }), []string{"drift"}},
		"few, but flawless":  {measured(full(), Numbers{Requests: sequential.Count{N: 150}}), []string{"error_rate", "latency", "quality"}},
		"one request failed": {Measured{Candidate: Numbers{Requests: sequential.Count{N: 1, Hits: 1}}}, []string{"error_rate", "latency", "quality", "sample_ratio", "drift"}},
	} {
		verdict, found := verdicts(t, everything(), c.m)
		if verdict == Pass {
			t.Errorf("%s: passed", name)
		}
		for _, guardrail := range c.undecided {
			if found[guardrail] != Undecided {
				t.Errorf("%s: %s says %s", name, guardrail, found[guardrail])
			}
		}
	}
}

// Below the requests that a policy asks for nothing passes, and what is clearly
// worse fails all the same.
func TestMinRequests(t *testing.T) {
	p := Policy{Alpha: 0.05, MinRequests: 100_000, ErrorRate: &ErrorRate{Worse: 0.05}}
	b := Numbers{Requests: sequential.Count{N: 50_000, Hits: 500}}
	if verdict, _ := verdicts(t, p, Measured{Baseline: b, Candidate: b}); verdict != Undecided {
		t.Errorf("the verdict is %s", verdict)
	}
	if verdict, _ := verdicts(t, p, Measured{Baseline: b, Candidate: Numbers{Requests: sequential.Count{N: 60, Hits: 30}}}); verdict != Fail {
		t.Errorf("half of all requests failed, and the verdict is %s", verdict)
	}
}

// The mixture test finds between equal arms what the exact one cannot tell yet, passes
// what is alike, and says nothing of arms that hardly ever fail.
func TestErrorRateByMSPRT(t *testing.T) {
	of := func(n, hits int64) Numbers { return Numbers{Requests: sequential.Count{N: n, Hits: hits}} }
	for _, c := range []struct {
		baseline, candidate Numbers
		exact, msprt        Verdict
	}{
		{of(1500, 30), of(1500, 105), Undecided, Fail},
		{of(2000, 40), of(2000, 40), Undecided, Pass},
		{of(100_000, 9), of(100_000, 9), Pass, Undecided},
		{of(1000, 20), of(1000, 400), Fail, Fail},
	} {
		for test, want := range map[string]Verdict{"": c.exact, Exact: c.exact, MSPRT: c.msprt} {
			p := Policy{Alpha: 0.05, MinRequests: 1, ErrorRate: &ErrorRate{Worse: 0.02, Test: test}}
			if verdict, _ := verdicts(t, p, Measured{Baseline: c.baseline, Candidate: c.candidate}); verdict != want {
				t.Errorf("%q says of %+v and %+v %s, expected %s", test, c.baseline.Requests, c.candidate.Requests, verdict, want)
			}
		}
	}
}

// What scores count is a range, of numbers that are in order and not too large; how many
// do not is said.
func TestRangeOfScores(t *testing.T) {
	for _, c := range []struct {
		within *[2]float64
		ok     bool
	}{{nil, true}, {&[2]float64{-5, 5}, true}, {&[2]float64{1, 1}, false}, {&[2]float64{1, 0}, false}, {&[2]float64{0, 1e13}, false}, {&[2]float64{-1e13, 0}, false}, {&[2]float64{math.NaN(), 1}, false}} {
		p := Policy{Alpha: 0.05, MinRequests: 1, Quality: &Quality{Worse: 0.1, MinLabels: 100, Range: c.within}}
		if err := p.Validate(); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.within, err)
		}
	}
	p := Policy{Alpha: 0.05, MinRequests: 1, Quality: &Quality{Worse: 0.1, MinLabels: 100}}
	j, err := Judge(p, Measured{Candidate: Numbers{Outside: 3}, Baseline: Numbers{Outside: 4}})
	if err != nil || !strings.Contains(j.Findings[0].Message, "7 labels are not within 0 to 1") {
		t.Errorf("%+v, %v", j, err)
	}
}

// At the limit a candidate is neither better nor worse than allowed: whoever
// looks again and again is told either in at most alpha of all experiments.
func TestPeekingAtTheLimit(t *testing.T) {
	const runs, looks, step = 150, 15, 150
	p := Policy{Alpha: 0.05, MinRequests: 1, ErrorRate: &ErrorRate{Worse: 0.02}, Latency: &Latency{0.9, 1.2}, Quality: &Quality{Worse: 0.1, MinLabels: 100}}
	wrong := 0
	for run := range runs {
		r := rand.New(rand.NewPCG(7, uint64(run)))
		var m Measured
		for range looks {
			m.Baseline.Merge(serve(r, 3*step, 0.02, 10*time.Millisecond, 0.9))
			m.Candidate.Merge(serve(r, step, 0.04, 12*time.Millisecond, 0.8))
			_, found := verdicts(t, p, m)
			if found["error_rate"] != Undecided || found["latency"] != Undecided || found["quality"] != Undecided {
				wrong++
				break
			}
		}
	}
	share := float64(wrong) / runs
	t.Logf("wrong in %.2f %%", 100*share)
	if limit := 0.05 + 3.5*math.Sqrt(0.05*0.95/runs); share > limit {
		t.Errorf("something wrong was said in %.3f of the experiments, want at most %.3f", share, limit)
	}
}

// A decision survives the log, and replays to the same; one that was tampered
// with does not.
func TestDecisionsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		draw := func() Numbers {
			return serve(r, rapid.IntRange(0, 3000).Draw(t, "n"), rapid.Float64Range(0, 1).Draw(t, "failures"), 30*time.Millisecond, rapid.Float64Range(0, 1).Draw(t, "quality"))
		}
		d, err := Decide(everything(), measured(draw(), draw()))
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var logged Decision
		if err := json.Unmarshal(data, &logged); err != nil {
			t.Fatal(err)
		}
		if err := logged.Replay(); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		logged.Measured.Candidate.Requests.N += 100
		logged.Measured.Candidate.Requests.Hits += 100
		if err := logged.Replay(); fault.CodeOf(err) != "decision_differs" {
			t.Fatalf("a hundred failures more were not noticed: %v", err)
		}
		d.Judgement.Verdict = "fine"
		if err := d.Replay(); fault.CodeOf(err) != "decision_differs" {
			t.Fatalf("another verdict was not noticed: %v", err)
		}
		d.Method++
		if err := d.Replay(); fault.CodeOf(err) != "decision_method" {
			t.Fatalf("another method was not noticed: %v", err)
		}
	})
}

// Numbers of parts merge to those of the whole.
func TestNumbersMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	a, b := serve(r, 500, 0.1, time.Second, 0.5), serve(r, 300, 0.2, time.Minute, 0.7)
	one, other := a, b
	one.Merge(b)
	other.Merge(a)
	other.Merge(Numbers{})
	x, _ := json.Marshal(one.Latency)
	y, _ := json.Marshal(other.Latency)
	if string(x) != string(y) || one.Requests != other.Requests || one.Requests.N != 800 || math.Abs(one.Quality.M2-other.Quality.M2) > 1e-9 {
		t.Errorf("%+v one way, %+v the other", one, other)
	}
	if a.Latency.Count()+b.Latency.Count() != one.Latency.Count() {
		t.Error("merging changed what was merged")
	}
}

func TestBadPoliciesAndNumbersAreRefused(t *testing.T) {
	for name, change := range map[string]func(p *Policy){
		"/alpha":               func(p *Policy) { p.Alpha = 0 },
		"/min_requests":        func(p *Policy) { p.MinRequests = 0 },
		"/error_rate/worse":    func(p *Policy) { p.ErrorRate.Worse = math.NaN() },
		"/error_rate/test":     func(p *Policy) { p.ErrorRate.Test = "z" },
		"/latency/quantile":    func(p *Policy) { p.Latency.Quantile = 1 },
		"/latency/ratio":       func(p *Policy) { p.Latency.Ratio = 1 },
		"/quality/worse":       func(p *Policy) { p.Quality.Worse = 0 },
		"/quality/min_labels":  func(p *Policy) { p.Quality.MinLabels = 99 },
		"/agreement/max_flips": func(p *Policy) { p.Agreement.MaxFlips = 0 },
		"/sample_ratio/alpha":  func(p *Policy) { p.SampleRatio.Alpha = 2 },
		"/drift/max_psi":       func(p *Policy) { p.Drift.MaxPSI = -1 },
		"":                     func(p *Policy) { *p = Policy{Alpha: 0.05, MinRequests: 1} },
	} {
		p := everything()
		change(&p)
		_, err := Judge(p, Measured{})
		if details := fault.Of(err); !fault.Is(err, fault.Unprocessable) || len(details.Details) != 1 || details.Details[0].Pointer != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []Measured{
		{Baseline: Numbers{Requests: sequential.Count{N: 1, Hits: 2}}},
		{Candidate: Numbers{Requests: sequential.Count{N: 1, Hits: -1}}},
		{Candidate: Numbers{Quality: sequential.Moments{N: 1, M2: math.NaN()}}},
		{Answers: sequential.Count{N: 1, Hits: 2}},
		{Units: []sequential.Ratio{{Counts: []int64{1}, Weights: []float64{2}}}},
	} {
		if _, err := Decide(everything(), m); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// ExampleJudge is a canary that had one request in a hundred.
func ExampleJudge() {
	p := Policy{Alpha: 0.05, MinRequests: 500, ErrorRate: &ErrorRate{Worse: 0.01}}
	m := Measured{
		Baseline:  Numbers{Requests: sequential.Count{N: 99_000, Hits: 95}},
		Candidate: Numbers{Requests: sequential.Count{N: 1_000, Hits: 2}},
	}
	j, _ := Judge(p, m)
	fmt.Println(j.Verdict, "-", j.Findings[0].Message)
	// Output: undecided - the candidate failed 2 of 1000 requests, the baseline 95 of 99000
}
