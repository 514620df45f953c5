package evidence

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/internal/inference/evidence/sequential"
)

// The truth is within all intervals, and estimates are near it.
func TestSummary(t *testing.T) {
	s := serve(rand.New(rand.NewPCG(5, 5)), 20_000, 0.03, 20*time.Millisecond, 0.8).Summary(0.01)
	if !s.ErrorRate.Interval.Has(0.03) || math.Abs(*s.ErrorRate.Value-0.03) > 0.005 || !s.Quality.Interval.Has(0.8) || math.Abs(*s.Quality.Value-0.8) > 0.02 {
		t.Errorf("got %+v", s)
	}
	for i, z := range []float64{0, 1.2816, 2.3263} { // of the lognormal distribution that serve draws from
		truth := time.Duration(20e6 * math.Exp(0.5*z))
		if p := s.Latency[i]; p.High == nil || p.Low > truth || *p.High < truth || p.Value < p.Low || p.Value > *p.High || p.Low < truth*8/10 || *p.High > truth*12/10 {
			t.Errorf("the %g-quantile is %s within [%s, %s], in truth %s", p.Quantile, p.Value, p.Low, p.High, truth)
		}
	}
}

// Without intervals the estimates stay, and the summary that they were taken from.
func TestBareSummary(t *testing.T) {
	s := serve(rand.New(rand.NewPCG(5, 5)), 20_000, 0.03, 20*time.Millisecond, 0.8).Summary(0.01)
	bare := s.Bare()
	if bare.ErrorRate.Interval != sequential.Everything || bare.Quality.Interval != sequential.Everything || *bare.ErrorRate.Value != *s.ErrorRate.Value || bare.Requests != s.Requests {
		t.Errorf("got %+v", bare)
	}
	for i, p := range bare.Latency {
		if p.Low != 0 || p.High != nil || p.Value != s.Latency[i].Value || s.Latency[i].Low == 0 {
			t.Errorf("got %+v", p)
		}
	}
}

func TestSummaryOfNothing(t *testing.T) {
	s := Numbers{}.Summary(0.05)
	data, err := json.Marshal(s)
	if want := `{"requests":0,"error_rate":{"value":null,"interval":[0,1]},"latency":null,"labels":0,"quality":{"value":null,"interval":[null,null]}}`; err != nil || string(data) != want {
		t.Errorf("%v: %s, want %s", err, data, want)
	}
}

// How many requests a canary of one percent needs until its error rate is known
// to be no more than worse above the baseline's, if it is the same. The figures
// are those of docs/EXPERIMENTS.md; more precision takes more requests.
func TestHowLongACanaryTakes(t *testing.T) {
	for _, rate := range []float64{0.001, 0.01} {
		before := 0.0
		for _, worse := range []float64{0.02, 0.01, 0.005, 0.002} {
			p := Policy{Alpha: 0.05, MinRequests: 1, ErrorRate: &ErrorRate{Worse: worse}}
			n := 100.0
			for ; ; n *= 1.05 {
				count := func(n float64) sequential.Count {
					return sequential.Count{N: int64(n), Hits: int64(math.Ceil(n * rate))}
				}
				verdict, _ := verdicts(t, p, Measured{Baseline: Numbers{Requests: count(99 * n)}, Candidate: Numbers{Requests: count(n)}})
				if verdict == Fail {
					t.Fatalf("a canary that is no worse failed after %.0f requests", n)
				}
				if verdict == Pass {
					break
				}
			}
			t.Logf("error rate %.1f %%, worse by at most %.1f points: passes after about %.0f requests", 100*rate, 100*worse, n)
			if n < before || n > 40*rate/(worse*worse)+40/worse {
				t.Errorf("it takes %.0f requests, and %.0f with less precision", n, before)
			}
			before = n
		}
	}
}
