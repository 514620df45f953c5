// Package route decides which version of a model serves a request: pure
// functions over an immutable table, so that a change is one pointer swap and
// a request sees either all of it or nothing.
//
// A table is made of two parts that change apart from each other: the versions
// that are live here, and Names, which say what aliases stand for and how
// experiments divide their requests.
package route

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"sluice/internal/inference/experiment"
	"sluice/internal/platform/fault"
)

// Model is the routing of one model's live versions.
type Model[V any] struct {
	// Versions are the live versions by number, ascending.
	Versions []Numbered[V]
	// Labels name versions; a label may name one that is not live.
	Labels map[string]int64

	names map[string]*served[V] // those of Names, with the versions that are live
	bare  *served[V]            // the one of the empty name; nil for none
}

// Numbered is a version with its number in both forms.
type Numbered[V any] struct {
	Number int64
	Text   string // Number in decimal
	Digest string // of the model's file
	Value  V
}

// Table routes names to versions. It is immutable: With, Without and Named return
// changed copies. The zero value routes nothing.
type Table[V any] struct {
	models map[string]*Model[V]
	names  map[string]Names
	splits map[string]*Split // of names, by their ids
}

// With returns a table in which name is routed by m, whose versions it sorts.
func (t *Table[V]) With(name string, m Model[V]) *Table[V] {
	m.Versions = slices.SortedFunc(slices.Values(m.Versions), func(a, b Numbered[V]) int {
		return cmp.Compare(a.Number, b.Number)
	})
	m.Labels = maps.Clone(m.Labels)
	m.serve(t.names[name])
	models := maps.Clone(t.models)
	if models == nil {
		models = map[string]*Model[V]{}
	}
	models[name] = &m
	return &Table[V]{models, t.names, t.splits}
}

// Without returns a table that does not know name.
func (t *Table[V]) Without(name string) *Table[V] {
	models := maps.Clone(t.models)
	delete(models, name)
	return &Table[V]{models, t.names, t.splits}
}

// Named returns a table with other names, by model. They must not be changed
// after that.
func (t *Table[V]) Named(names map[string]Names) *Table[V] {
	models := make(map[string]*Model[V], len(t.models))
	for name, m := range t.models {
		renamed := *m
		renamed.serve(names[name])
		models[name] = &renamed
	}
	splits := map[string]*Split{}
	for _, of := range names {
		for _, n := range of {
			if n.Split != nil {
				splits[n.Split.ID] = n.Split
			}
		}
	}
	return &Table[V]{models, names, splits}
}

// Names returns the routed names, sorted.
func (t *Table[V]) Names() []string { return slices.Sorted(maps.Keys(t.models)) }

// Versions returns the live versions of a model, ascending, and whether the
// name is routed at all. The slice must not be changed.
func (t *Table[V]) Versions(name string) ([]Numbered[V], bool) {
	m, ok := t.models[name]
	if !ok {
		return nil, false
	}
	return m.Versions, true
}

// All yields the live versions of all models.
func (t *Table[V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, m := range t.models {
			for i := range m.Versions {
				if !yield(m.Versions[i].Value) {
					return
				}
			}
		}
	}
}

// Choice is the version that serves a request, and why.
type Choice[V any] struct {
	Value V
	// Split is what the request was divided by, and Arm the index of the arm that
	// it has there; nil where it has none.
	Split *Split
	Arm   int
	// Reason is how it came to the arm.
	Reason experiment.Reason
	// Shadow is the version of Split's shadow; the zero value where it is not live.
	Shadow V
}

// Shadowed says whether a copy of the request is for the shadow.
func (c *Choice[V]) Shadowed() bool {
	return c.Split != nil && c.Split.Shadow != nil && c.Arm == 0 && c.Reason != experiment.ByRule
}

// Pick returns the version that serves a request: the one whose number, alias or
// label was asked for, else the one that the empty alias stands for, else the
// numerically greatest. An alias comes before a label of the same name. The
// request, which may be nil for none, is divided where an experiment says so. The
// errors use the texts that clients of the protocol match on. It does not
// allocate on success.
func (t *Table[V]) Pick(name, version string, r experiment.Request) (Choice[V], error) {
	m, ok := t.models[name]
	if !ok {
		return Choice[V]{}, fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", name).WithCode("model_not_found")
	}
	if version != "" {
		if s, ok := m.names[version]; ok {
			return s.choose(name, version, r)
		}
	} else {
		if m.bare != nil {
			return m.bare.choose(name, version, r)
		}
		if n := len(m.Versions); n > 0 {
			return Choice[V]{Value: m.Versions[n-1].Value}, nil
		}
		return Choice[V]{}, fault.New(fault.Unavailable, "Request for unknown model: '%s' has no available versions", name).WithCode("model_not_ready")
	}
	for i := range m.Versions {
		if m.Versions[i].Text == version {
			return Choice[V]{Value: m.Versions[i].Value}, nil
		}
	}
	if number, ok := m.Labels[version]; ok {
		if v := m.numbered(number); v != nil {
			return Choice[V]{Value: v.Value}, nil
		}
		return Choice[V]{}, notReady(name, number, "label", version)
	}
	return Choice[V]{}, fault.New(fault.NotFound, "Request for unknown model: '%s' version %s is not found", name, version).WithCode("version_not_found")
}

func notReady(name string, number int64, what, version string) error {
	return fault.New(fault.Unavailable, "'%s' version %d (%s '%s') is not at ready state", name, number, what, version).WithCode("model_not_ready")
}

// numbered returns the live version of a number, or nil.
func (m *Model[V]) numbered(number int64) *Numbered[V] {
	for i := range m.Versions {
		if m.Versions[i].Number == number {
			return &m.Versions[i]
		}
	}
	return nil
}

// digested returns the greatest live version of a digest, if there is one.
func (m *Model[V]) digested(digest string) (v V, live bool) {
	for i := len(m.Versions) - 1; i >= 0; i-- {
		if m.Versions[i].Digest == digest {
			return m.Versions[i].Value, true
		}
	}
	return v, false
}
