package evidence

import (
	"math/rand/v2"
	"testing"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/sequential"
)

// shifted is what was measured of enough requests.
func shifted(d *drift.Distance, of string) Measured {
	served := Numbers{Requests: sequential.Count{N: 10_000}}
	return Measured{Baseline: served, Candidate: served, Scores: d, Scored: of}
}

// predictions are the sketch of predictions of some numbers each, which lie around a mean
// of their own: so much they depend on each other.
func predictions(n, of int, mean, spread float64, seed uint64) *drift.Sketch {
	r, s := rand.New(rand.NewPCG(seed, 3)), new(drift.Sketch)
	for range n {
		own := mean + spread*r.NormFloat64()
		for range of {
			s.Add(own + r.NormFloat64())
		}
		s.End()
	}
	return s
}

// The numbers of a few predictions say nothing yet, however many they are; those of many
// do, and the more they depend on each other the later.
func TestDriftIsOfPredictions(t *testing.T) {
	p := Policy{Alpha: 0.05, MinRequests: 500, Drift: &Drift{MaxPSI: 0.25}}
	for name, c := range map[string]struct {
		from, to *drift.Sketch
		want     Verdict
	}{
		"one prediction each":     {predictions(1, 1000, 0, 1, 1), predictions(1, 1000, 3, 1, 2), Undecided},
		"fewer than asked for":    {predictions(499, 10, 0, 0, 1), predictions(800, 10, 3, 0, 2), Undecided},
		"few of the reference":    {predictions(10, 1000, 0, 0, 1), predictions(800, 10, 0, 0, 2), Undecided},
		"otherwise":               {predictions(500, 10, 0, 0, 1), predictions(500, 10, 3, 0, 2), Fail},
		"alike":                   {predictions(2000, 10, 0, 0, 1), predictions(2000, 10, 0, 0, 2), Pass},
		"alike, but not the mean": {predictions(500, 1000, 0, 3, 1), predictions(500, 1000, 0, 3, 2), Pass},
	} {
		far, of := p.Farthest(map[string]*drift.Sketch{"out/y": c.from}, map[string]*drift.Sketch{"out/y": c.to})
		verdict, _ := verdicts(t, p, shifted(far, of))
		if verdict != c.want || of != "out/y" {
			t.Errorf("%s: %s, want %s; %+v", name, verdict, c.want, far)
		}
	}
}

// What is alike is never said to have drifted, of whatever many tensors, at whatever look.
func TestDriftOfManyIsNoAlarm(t *testing.T) {
	p := Policy{Alpha: 0.05, MinRequests: 1, Drift: &Drift{MaxPSI: 0.1}}
	from, to := map[string]*drift.Sketch{}, map[string]*drift.Sketch{}
	for look := range 10 {
		for i := range 64 {
			name := string(rune('0' + i))
			for side, s := range map[uint64]map[string]*drift.Sketch{1: from, 2: to} {
				if s[name] == nil {
					s[name] = new(drift.Sketch)
				}
				s[name].Merge(predictions(50, 20, 0, 1, uint64(look*1000+i*10)+side))
			}
		}
		far, of := p.Farthest(from, to)
		if verdict, _ := verdicts(t, p, shifted(far, of)); verdict == Fail {
			t.Fatalf("look %d: %s drifted: %+v", look, of, far)
		}
	}
}

// A tensor that only one side has is not known, so nothing passes; but another that has
// drifted fails all the same.
func TestDriftOfWhatOneSideHas(t *testing.T) {
	p := Policy{Alpha: 0.05, MinRequests: 500, Drift: &Drift{MaxPSI: 0.25}}
	some := func(mean float64, seed uint64) *drift.Sketch { return predictions(2000, 1, mean, 0, seed) }
	for name, c := range map[string]struct {
		from, to map[string]*drift.Sketch
		want     Verdict
		of       string
	}{
		"the reference": {map[string]*drift.Sketch{"out/a": some(0, 1), "out/b": some(0, 2)}, map[string]*drift.Sketch{"out/a": some(0, 3)}, Undecided, "out/b"},
		"the candidate": {map[string]*drift.Sketch{"out/b": some(0, 2)}, map[string]*drift.Sketch{"out/a": some(0, 3), "out/b": some(0, 4)}, Undecided, "out/a"},
		"with drift":    {map[string]*drift.Sketch{"out/a": some(0, 1), "out/b": some(0, 2)}, map[string]*drift.Sketch{"out/b": some(3, 3)}, Fail, "out/b"},
		"nobody":        {nil, nil, Undecided, ""},
	} {
		far, of := p.Farthest(c.from, c.to)
		if verdict, _ := verdicts(t, p, shifted(far, of)); verdict != c.want || of != c.of {
			t.Errorf("%s: %s by %q, want %s by %q", name, verdict, of, c.want, c.of)
		}
	}
}
