package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
)

// guardrail judges one aspect of what was measured.
type guardrail func(m Measured) (Finding, error)

// guardrails returns those that the policy asks, in a fixed order.
func (p Policy) guardrails() []guardrail {
	asked := 0
	for _, is := range []bool{p.ErrorRate != nil, p.Latency != nil, p.Quality != nil, p.Agreement != nil} {
		if is {
			asked++
		}
	}
	alpha := p.Alpha / float64(max(asked, 1)) // of each
	var out []guardrail
	if g := p.ErrorRate; g != nil {
		out = append(out, func(m Measured) (Finding, error) { return p.enough(m, g.judge(m, alpha)), nil })
	}
	if g := p.Latency; g != nil {
		out = append(out, func(m Measured) (Finding, error) { return p.enough(m, g.judge(m, alpha)), nil })
	}
	if g := p.Quality; g != nil {
		out = append(out, func(m Measured) (Finding, error) { return p.enough(m, g.judge(m, alpha)), nil })
	}
	if g := p.Agreement; g != nil {
		out = append(out, func(m Measured) (Finding, error) { return p.enough(m, g.judge(m, alpha)), nil })
	}
	if g := p.SampleRatio; g != nil {
		out = append(out, func(m Measured) (Finding, error) { f, err := g.judge(m); return p.enough(m, f), err })
	}
	if g := p.Replay; g != nil { // nobody waits for requests: what was asked before is asked again
		out = append(out, func(m Measured) (Finding, error) { return g.judge(m.Replayed), nil })
	}
	if g := p.Drift; g != nil {
		out = append(out, func(m Measured) (Finding, error) { return p.enough(m, g.judge(m, p.MinRequests)), nil })
	}
	return out
}

// enough lets nothing pass before both arms have the requests that the policy
// asks for.
func (p Policy) enough(m Measured, f Finding) Finding {
	if least := min(m.Baseline.Requests.N, m.Candidate.Requests.N); f.Verdict == Pass && least < p.MinRequests {
		f.Verdict = Undecided
		f.Message += fmt.Sprintf("; of the %d requests that each arm needs one has %d", p.MinRequests, least)
	}
	return f
}

// find compares an interval with the limit that all of it should be within.
func find(name string, i sequential.Interval, limit float64, format string, args ...any) Finding {
	f := Finding{Guardrail: name, Verdict: Undecided, Interval: i, Limit: limit, Message: fmt.Sprintf(format, args...)}
	switch {
	case i.Low > limit:
		f.Verdict = Fail
	case i.High <= limit:
		f.Verdict = Pass
	}
	return f
}

// judge uses the exact sequences unless asked otherwise: a canary's first hundred
// requests without an error say next to nothing, which a central limit theorem
// would not know.
func (g *ErrorRate) judge(m Measured, alpha float64) Finding {
	b, c := m.Baseline.Requests, m.Candidate.Requests
	worse := sequential.ProportionDifferenceExact(b, c, alpha)
	if g.Test == MSPRT {
		worse = sequential.ProportionDifference(b, c, alpha, g.Worse)
	}
	return find("error_rate", worse, g.Worse,
		"the candidate failed %d of %d requests, the baseline %d of %d", c.Hits, c.N, b.Hits, b.N)
}

func (g *Latency) judge(m Measured, alpha float64) Finding {
	b, c := m.Baseline.Latency, m.Candidate.Latency
	baseLow, baseHigh := quantile(b, g.Quantile, alpha/2)
	low, high := quantile(c, g.Quantile, alpha/2)
	ratio := sequential.Interval{Low: float64(low) / float64(max(baseHigh, 1)), High: math.Inf(1)}
	if baseLow > 0 && high < math.MaxInt64 {
		ratio.High = float64(high) / float64(baseLow)
	}
	return find("latency", ratio, g.Ratio, "the %g-quantile of the candidate's latencies is about %s, that of the baseline's %s",
		g.Quantile, round(c.Quantile(g.Quantile)), round(b.Quantile(g.Quantile)))
}

// quantile returns what a quantile is within, buckets and all.
func quantile(h *histogram.Histogram, q, alpha float64) (low, high time.Duration) {
	first, last := sequential.Ranks(h.Count(), q, alpha)
	low, _ = h.Rank(first)
	_, high = h.Rank(last)
	return low, high
}

// round is a duration with three digits.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// tunedLabels is how many labels of both arms the sequence is narrowest at, for
// each that the policy asks for.
const tunedLabels = 10

func (g *Quality) judge(m Measured, alpha float64) Finding {
	b, c := m.Baseline.Quality, m.Candidate.Quality
	less := sequential.Everything
	if min(b.N, c.N) >= g.MinLabels {
		less = sequential.MeanDifference(c, b, alpha, tunedLabels*float64(g.MinLabels))
	}
	f := find("quality", less, g.Worse, "the candidate's %d labels have the mean %.4g, the baseline's %d have %.4g", c.N, c.Mean, b.N, b.Mean)
	if n := m.Baseline.Outside + m.Candidate.Outside; n > 0 {
		within := g.Within()
		f.Message += fmt.Sprintf("; %d labels are not within %g to %g and do not count", n, within[0], within[1])
	}
	return f
}

func (g *Agreement) judge(m Measured, alpha float64) Finding {
	return find("agreement", sequential.Proportion(m.Answers, alpha), g.MaxFlips, "%d of %d answers are not the baseline's", m.Answers.Hits, m.Answers.N)
}

// judge fails for a p-value of alpha or less. The interval is that value as
// evidence, 1/p, with the limit 1/alpha.
func (g *SampleRatio) judge(m Measured) (Finding, error) {
	p, err := sequential.SampleRatio(m.Units...)
	if err != nil {
		return Finding{}, err
	}
	units := int64(0)
	for _, r := range m.Units {
		for _, n := range r.Counts {
			units += n
		}
	}
	if units == 0 {
		return find("sample_ratio", sequential.Everything, 1/g.Alpha, "no units were counted"), nil
	}
	against := 1 / max(p, 1e-300)
	f := find("sample_ratio", sequential.Interval{Low: against, High: against}, 1/g.Alpha, "%d units are divided as by chance with p = %.3g", units, p)
	if p <= g.Alpha {
		f.Verdict = Fail
		f.Message += ": assignment or logging is broken, and no other number can be trusted"
	}
	return f, nil
}

// judge says nothing before both sides have the predictions that the policy asks for: the
// numbers of one are no sample.
func (g *Drift) judge(m Measured, least int64) Finding {
	d, needed := m.Scores, max(least, drift.MinCount)
	switch {
	case d == nil || min(d.Reference, d.Window) < drift.MinCount:
		return find("drift", sequential.Everything, g.MaxPSI, "too little is known of %s of the candidate and the reference: %d numbers are needed of each", cmp.Or(m.Scored, "the answers"), drift.MinCount)
	case min(d.ReferenceSamples, d.WindowSamples) < needed:
		return find("drift", sequential.Everything, g.MaxPSI, "the numbers of %s are of %d logged predictions of the candidate and %d of the reference, %d are needed of each",
			cmp.Or(m.Scored, "answers"), d.WindowSamples, d.ReferenceSamples, needed)
	}
	return find("drift", sequential.Interval{Low: d.Least(), High: d.Shift()}, g.MaxPSI,
		"the stability index of %s in %d predictions of the candidate is %.3g, of which chance gives %.3g to %.3g", cmp.Or(m.Scored, "answers"), d.WindowSamples, d.PSI, d.Noise, d.MaxNoise)
}

// Farthest compares sketches of the same name and returns the greatest distance with its
// name: of those that fail the policy, if any do, and else of all. Where only one side has
// a sketch nothing is known, which counts as the farthest of all that do not fail.
func (p Policy) Farthest(reference, candidate map[string]*drift.Sketch) (far *drift.Distance, name string) {
	all := map[string]*drift.Sketch{}
	maps.Copy(all, reference)
	maps.Copy(all, candidate)
	var last Finding
	for _, of := range slices.Sorted(maps.Keys(all)) {
		one, _ := drift.CompareSketches(reference[of], candidate[of]) // too few are judged as that
		f := p.Drift.judge(Measured{Scores: &one}, p.MinRequests)
		fails := f.Verdict == Fail
		if far == nil || fails && last.Verdict != Fail || fails == (last.Verdict == Fail) && f.Interval.High > last.Interval.High {
			far, name, last = &one, of, f
		}
	}
	return far, name
}
