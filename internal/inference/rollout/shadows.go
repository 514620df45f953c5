package rollout

import (
	"context"
	"sync"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// shadowTally counts the outcomes of a shadow on this node: a route.Judge.
type shadowTally struct {
	mu      sync.Mutex
	numbers *shadow.Numbers
}

func newShadowTally(p shadow.Policy) (*shadowTally, error) {
	n, err := shadow.NewNumbers(p.Config)
	return &shadowTally{numbers: n}, err
}

// judging returns a shadow whose answers the tally compares.
func (t *partTally) judging(name, digest string, p shadow.Policy) (*route.Shadow, error) {
	if t.shadow.Load() == nil {
		s, err := newShadowTally(p)
		if err != nil {
			return nil, err
		}
		t.shadow.Store(s)
	}
	return &route.Shadow{Name: name, Digest: digest, Sample: p.Sample, Judge: t.shadow.Load()}, nil
}

// Compare implements route.Judge.
func (s *shadowTally) Compare(p *route.Pair) shadow.Difference {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers.Ran(p.Champion.Took, p.Candidate.Took)
	d := s.numbers.Report.Compare(p.Champion.Outputs, p.Candidate.Outputs, p.Rows)
	if s.numbers.Report.Worse(d) {
		s.numbers.Report.Keep(shadow.Worst{Difference: d, Champion: prediction(p.Champion.Prediction), Candidate: prediction(p.Candidate.Prediction)})
	}
	return d
}

// prediction is an id as the prediction log has it, empty for none.
func prediction(id record.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// Failed implements route.Judge.
func (s *shadowTally) Failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers.Failed++
}

// Dropped implements route.Judge.
func (s *shadowTally) Dropped(why shadow.Dropped) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers.Dropped[why]++
}

// snapshot returns a copy of what was counted so far.
func (s *shadowTally) snapshot() *shadow.Numbers {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, _ := addShadow(nil, s.numbers) // fails for different configurations alone
	return sum
}

// addShadow adds what another node has counted, if it has, and returns the sum.
func addShadow(sum, n *shadow.Numbers) (*shadow.Numbers, error) {
	if n == nil {
		return sum, nil
	}
	if sum == nil {
		var err error
		if sum, err = shadow.NewNumbers(n.Report.Config); err != nil {
			return nil, err
		}
	}
	return sum, sum.Merge(n)
}

// measureShadow has a shadow step judged by the shadow's runs: times are those of
// the runs, on the same requests, since copies wait for idle capacity.
func measureShadow(m *evidence.Measured, n *shadow.Numbers) {
	m.Baseline.Latency, m.Candidate.Latency = n.Champion, n.Candidate
	m.Candidate.Requests = sequential.Count{N: n.Report.Answers + n.Failed, Hits: n.Failed}
	m.Answers = sequential.Count{N: n.Report.Rows, Hits: n.Report.Differ}
}

// FindShadow asks for the outcomes of a shadow: that of a release's step, or that of an
// experiment, where Step means nothing.
type FindShadow struct {
	cqrs.Returns[*shadow.Numbers]
	Holder string
	Step   int
}

// QueryName implements cqrs.Query.
func (FindShadow) QueryName() string { return "shadows.read" }

func registerShadows(b *cqrs.Bus) {
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q FindShadow) (sum *shadow.Numbers, err error) {
		where := ofPart.Eq(part{q.Holder, int64(q.Step)}.String())
		if isExperiment(q.Holder) {
			where = ofHolder.Eq(q.Holder)
		}
		if sum, err = shadowOf(ctx, from, where); err == nil && sum == nil {
			err = fault.New(fault.NotFound, "nothing of %s was shadowed at step %d, or it is forgotten", fault.Clip(q.Holder, 64), q.Step).WithCode("shadow_not_found")
		}
		return sum, err
	}, cqrs.Platform())
}

// shadowOf adds up what nodes have counted of a shadow; nil where none has.
func shadowOf(ctx context.Context, from repo.Reading, where spec.Spec[Tally]) (sum *shadow.Numbers, err error) {
	for t, err := range TallyKind.All(ctx, from, spec.Query[Tally]{Where: where}) {
		if err != nil {
			return nil, err
		}
		if sum, err = addShadow(sum, t.Shadow); err != nil {
			return nil, err
		}
	}
	return sum, nil
}
