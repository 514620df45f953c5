package route

import (
	"slices"
	"time"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/shadow"
	"sluice/internal/inference/tensor"
)

// Default is the alias that also serves requests which name no version, where a
// model has it.
const Default = "champion"

// Names say what serves the requests for aliases of one model. Requests that name no
// version have the empty name.
type Names map[string]Name

// Name is what an alias stands for.
type Name struct {
	// Version serves whoever is in no experiment.
	Version int64
	// Split divides the alias's requests; nil does not.
	Split *Split
}

// Split divides the requests of an alias among versions.
type Split struct {
	ID   string // of the experiment or release
	Plan *experiment.Plan
	Arms []Arm // as the plan has them
	// Shadow gets copies of the requests that chance gives to the first arm; its answers are
	// only compared. Nil for none.
	Shadow *Shadow
}

// Shadow is a version whose answers are compared with those of a split's first arm.
type Shadow struct {
	Name   string
	Digest string  // of the version
	Sample float64 // the share of the requests
	Judge  Judge
}

// Judge compares answers, and counts what became of copies of requests. It must be
// quick, and safe for concurrent use.
type Judge interface {
	// Compare is given both answers to a request, which are only valid during the call.
	Compare(p *Pair) shadow.Difference
	// Failed is told that the candidate did not answer.
	Failed()
	// Dropped is told of a copy that came to nothing for no fault of the candidate's.
	Dropped(why shadow.Dropped)
}

// Pair is a request that both versions have answered.
type Pair struct {
	Rows                int
	Champion, Candidate Answered
}

// Answered is what one version answered.
type Answered struct {
	Prediction [16]byte // its id in the prediction log; zero for none
	Outputs    []tensor.Tensor
	Took       time.Duration // the run
}

// Arm is a version that a split gives requests to.
type Arm struct {
	Name   string
	Digest string // of the version: an arm stays with one file, whatever number that has
	Meter  Meter  // is told of the arm's requests; nil for nobody
}

// Meter counts what became of the requests of an arm. It must be quick, and safe
// for concurrent use.
type Meter interface {
	// Answered is told how long the model took.
	Answered(r experiment.Reason, took time.Duration)
	// Spared is told of answers in spare time, whose latency says nothing of the model.
	Spared(r experiment.Reason)
	// Failed is told of requests that were not answered, except where the request was wrong
	// or its client had gone.
	Failed(r experiment.Reason)
}

// Stands returns the number of the version that a name of a model stands for,
// whether or not that is live; the empty name is the one of requests that name no version.
func (t *Table[V]) Stands(model, name string) (number int64, ok bool) {
	n, ok := t.names[model][name]
	return n.Version, ok
}

// Arm returns the split with an id and the index of its arm with a name; nil where there is
// no such arm.
func (t *Table[V]) Arm(id, name string) (*Split, int) {
	s := t.splits[id]
	if s == nil {
		return nil, 0
	}
	i := slices.IndexFunc(s.Arms, func(a Arm) bool { return a.Name == name })
	if i < 0 {
		return nil, 0
	}
	return s, i
}

// served is a Name with the versions that are live.
type served[V any] struct {
	number int64 // of base
	base   *Numbered[V]
	split  *Split
	arms   []armed[V]
	shadow V // the zero value where it is not live
}

// armed is the version of an arm.
type armed[V any] struct {
	value V
	live  bool
}

// serve routes the model's requests by the names from now on.
func (m *Model[V]) serve(names Names) {
	m.names = make(map[string]*served[V], len(names))
	for alias, n := range names {
		s := &served[V]{number: n.Version, base: m.numbered(n.Version), split: n.Split}
		if n.Split != nil {
			for _, arm := range n.Split.Arms {
				v, live := m.digested(arm.Digest)
				s.arms = append(s.arms, armed[V]{v, live})
			}
			if n.Split.Shadow != nil {
				s.shadow, _ = m.digested(n.Split.Shadow.Digest)
			}
		}
		m.names[alias] = s
	}
	m.bare = m.names[""]
}

// choose returns the version for a request. Where its arm is not live here, the request is
// served as if it were in no experiment: no comparison is worth failing it.
func (s *served[V]) choose(name, alias string, r experiment.Request) (Choice[V], error) {
	if s.split != nil && r != nil {
		a := s.split.Plan.Assign(r)
		if a.Arm >= 0 && s.arms[a.Arm].live {
			return Choice[V]{s.arms[a.Arm].value, s.split, a.Arm, a.Reason, s.shadow}, nil
		}
	}
	if s.base == nil {
		if alias == "" {
			alias = Default
		}
		return Choice[V]{}, notReady(name, s.number, "alias", alias)
	}
	return Choice[V]{Value: s.base.Value}, nil
}
