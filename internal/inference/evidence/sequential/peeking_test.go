package sequential

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
)

// go test ./internal/inference/evidence/sequential -run Peeking -v -runs 10000 -looks 10000
// gives the figures of docs/EXPERIMENTS.md, in some minutes.
var (
	runs  = flag.Int("runs", 1000, "experiments that are simulated for each figure")
	looks = flag.Int("looks", 1000, "observations of each arm, and looks, in each of them")
)

// warm is how many observations of each arm the sequences of means are given
// before anybody looks, see the package comment.
const warm = 100

const alpha = 0.05

// margin is what a share of n experiments may be above alpha by chance: three and a
// half standard deviations, one case in four thousand. Seeds are fixed, so a
// figure that holds once holds always.
func margin(n int) float64 { return 3.5 * math.Sqrt(alpha*(1-alpha)/float64(n)) }

// simulate returns the share of experiments in which some look was an alarm,
// and after how many observations of each arm that came, in the median.
func simulate(seed uint64, begin func(r *rand.Rand) (look func(i int) bool)) (share float64, when int) {
	stopped := make([]int, *looks+1)
	alarms := 0
	for run := range *runs {
		look := begin(rand.New(rand.NewPCG(seed, uint64(run))))
		for i := 1; i <= *looks; i++ {
			if look(i) {
				alarms++
				stopped[i]++
				break
			}
		}
	}
	seen := 0
	for i, n := range stopped {
		if seen += n; 2*seen >= alarms {
			when = i
			break
		}
	}
	return float64(alarms) / float64(*runs), when
}

func bernoulli(r *rand.Rand, p float64) int64 {
	if r.Float64() < p {
		return 1
	}
	return 0
}

// rates is an A/B experiment on rates of hits, where an alarm is that no
// difference is refused. Of the first arm there are times as many observations.
func rates(p, q float64, times int, refused func(a, b Count) bool) func(r *rand.Rand) func(i int) bool {
	return func(r *rand.Rand) func(int) bool {
		var a, b Count
		return func(i int) bool {
			for range times {
				a = Count{a.N + 1, a.Hits + bernoulli(r, p)}
			}
			b = Count{b.N + 1, b.Hits + bernoulli(r, q)}
			return refused(a, b)
		}
	}
}

func msprt(a, b Count) bool { return MSPRT(a, b, 0, 0.02) <= alpha }

// exact looks less often, since it is slow.
func exact(a, b Count) bool { return b.N%300 == 0 && !ProportionDifferenceExact(a, b, alpha).Has(0) }

// means is the same for means.
func means(first, second func(r *rand.Rand) float64, times int) func(r *rand.Rand) func(i int) bool {
	return func(r *rand.Rand) func(int) bool {
		var a, b Moments
		return func(i int) bool {
			for range times {
				a.Add(first(r))
			}
			b.Add(second(r))
			return b.N >= warm && !MeanDifference(a, b, alpha, 5000).Has(0)
		}
	}
}

func normal(mean float64) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return mean + r.NormFloat64() }
}

// latency is heavy-tailed, as times are.
func latency(scale float64) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return scale * math.Exp(r.NormFloat64()) }
}

// right is what labels are: 1 for a right answer, of which there are many.
func right(r *rand.Rand) float64 { return float64(bernoulli(r, 0.99)) }

// fixed is the test that is made for one look: at every look it is what
// everybody does who watches a dashboard.
func fixed(a, b Count) bool {
	d := b.Rate() - a.Rate()
	return a.N >= warm && math.Abs(d) > 1.96*math.Sqrt(differenceVariance(a, b))
}

// One who looks after every observation at two arms that are alike is wrong in
// at most alpha of all experiments.
func TestPeekingIsSafe(t *testing.T) {
	one := func(p float64) func(r *rand.Rand) func(int) bool {
		return func(r *rand.Rand) func(int) bool {
			var c Count
			log := 0.0 // logMixture, one observation after the other
			return func(i int) bool {
				hit, prior, rate := bernoulli(r, p), float64(c.Hits)+0.5, p
				if hit == 0 {
					prior, rate = float64(c.N-c.Hits)+0.5, 1-p
				}
				log += math.Log(prior / (float64(c.N) + 1) / rate)
				c = Count{c.N + 1, c.Hits + hit}
				if i == *looks && math.Abs(log-logMixture(c, p)) > 1e-6 {
					t.Errorf("%v: %g one by one, %g at once", c, log, logMixture(c, p))
				}
				return log >= -math.Log(alpha) // p is outside of Proportion
			}
		}
	}
	type experiment struct {
		name  string
		begin func(r *rand.Rand) func(int) bool
	}
	alike := []experiment{
		{"Proportion, 0.1 %", one(0.001)},
		{"Proportion, 1 %", one(0.01)},
		{"Proportion, 50 %", one(0.5)},
		{"Ranks, p99 of latencies", one(0.99)},
		{"MSPRT, 1 %", rates(0.01, 0.01, 1, msprt)},
		{"MSPRT, 1 %, arms of 9 to 1", rates(0.01, 0.01, 9, msprt)},
		{"MSPRT, 10 %", rates(0.1, 0.1, 1, msprt)},
		{"ProportionDifferenceExact, 1 %", rates(0.01, 0.01, 1, exact)},
		{"MeanDifference, normal", means(normal(0), normal(0), 1)},
		{"MeanDifference, 99 % are right, arms of 9 to 1", means(right, right, 9)},
		{"SampleRatio, 90:10", ratio(0.1)},
	}
	if *looks >= 10_000 {
		alike = append(alike,
			experiment{"MSPRT, 0.1 %", rates(0.001, 0.001, 1, msprt)},
			experiment{"MSPRT, 50 %", rates(0.5, 0.5, 1, msprt)},
			experiment{"MeanDifference, lognormal", means(latency(1), latency(1), 1)},
			experiment{"MeanDifference, lognormal, arms of 5 to 1", means(latency(1), latency(1), 5)},
		)
	}
	for _, c := range alike {
		t.Run(c.name, func(t *testing.T) {
			share, _ := simulate(1, c.begin)
			t.Logf("false alarms %.2f %%", 100*share)
			if limit := alpha + margin(*runs); share > limit {
				t.Errorf("false alarms in %.3f of the experiments, want at most %.3f", share, limit)
			}
		})
	}
}

// ratio assigns units, of which the second arm should have a tenth.
func ratio(share float64) func(r *rand.Rand) func(int) bool {
	return func(r *rand.Rand) func(int) bool {
		counts := []int64{0, 0}
		return func(i int) bool {
			counts[bernoulli(r, share)]++
			if i%4 != 0 {
				return false
			}
			p, err := SampleRatio(Ratio{counts, []float64{0.9, 0.1}})
			return err != nil || p <= alpha
		}
	}
}

// The simulation can tell: with a test for one look it sees far more than alpha.
func TestPeekingIsUnsafeOtherwise(t *testing.T) {
	share, _ := simulate(2, rates(0.1, 0.1, 1, fixed))
	t.Logf("false alarms %.2f %%", 100*share)
	if share < 0.15 {
		t.Errorf("false alarms in %.3f of the experiments, expected many", share)
	}
}

// A difference that matters is found; one that is smaller is by who looks longer.
func TestPeekingFindsDifferences(t *testing.T) {
	type difference struct {
		name  string
		begin func(r *rand.Rand) func(int) bool
		want  float64 // of the experiments
	}
	differences := []difference{
		{"MSPRT, 10 % against 15 %", rates(0.10, 0.15, 1, msprt), 0.5},
		{"MSPRT, 2 % against 6 %", rates(0.02, 0.06, 1, msprt), 0.9},
		{"Exact, 10 % against 20 %", rates(0.10, 0.20, 1, exact), 0.6},
		{"MeanDifference, 0.15 sd", means(normal(0), normal(0.15), 1), 0.5},
		{"SampleRatio, 15 % for 10 %", ratio(0.15), 0.9},
	}
	if *looks >= 10_000 {
		differences = append(differences,
			difference{"MSPRT, 10 % against 12 %", rates(0.10, 0.12, 1, msprt), 0.9},
			difference{"MSPRT, 1 % against 2 %", rates(0.01, 0.02, 1, msprt), 0.9},
			difference{"Exact, 10 % against 15 %", rates(0.10, 0.15, 1, exact), 0.9},
			difference{"Exact, 1 % against 2 %", rates(0.01, 0.02, 1, exact), 0.5},
			difference{"Exact, 1 % against 2 %, arms of 9 to 1", rates(0.01, 0.02, 9, exact), 0.5},
			difference{"MeanDifference, 0.05 sd", means(normal(0), normal(0.05), 1), 0.5},
			difference{"SampleRatio, 11 % for 10 %", ratio(0.11), 0.5},
		)
	}
	for _, c := range differences {
		t.Run(c.name, func(t *testing.T) {
			share, when := simulate(3, c.begin)
			t.Logf("found in %.1f %%, after %d of each arm in the median", 100*share, when)
			if share < c.want {
				t.Errorf("found in %.3f of the experiments, want %.2f", share, c.want)
			}
		})
	}
}
