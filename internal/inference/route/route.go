// Package route decides which version of a model serves a request: pure
// functions over an immutable table, so that a change is one pointer swap and
// a request sees either all of it or nothing.
package route

import (
	"cmp"
	"maps"
	"slices"

	"sluice/internal/platform/fault"
)

// Model is the routing of one model's live versions.
type Model[V any] struct {
	// Versions are the live versions by number, ascending.
	Versions []Numbered[V]
	// Labels name versions; a label may name one that is not live.
	Labels map[string]int64
}

// Numbered is a version with its number in both forms.
type Numbered[V any] struct {
	Number int64
	Text   string // Number in decimal
	Value  V
}

// Table routes names to versions. It is immutable: With and Without return
// changed copies. The zero value routes nothing.
type Table[V any] struct{ models map[string]*Model[V] }

// With returns a table in which name is routed by m, whose versions it sorts.
func (t *Table[V]) With(name string, m Model[V]) *Table[V] {
	m.Versions = slices.SortedFunc(slices.Values(m.Versions), func(a, b Numbered[V]) int {
		return cmp.Compare(a.Number, b.Number)
	})
	m.Labels = maps.Clone(m.Labels)
	models := maps.Clone(t.models)
	if models == nil {
		models = map[string]*Model[V]{}
	}
	models[name] = &m
	return &Table[V]{models: models}
}

// Without returns a table that does not know name.
func (t *Table[V]) Without(name string) *Table[V] {
	models := maps.Clone(t.models)
	delete(models, name)
	return &Table[V]{models: models}
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

// Pick returns the version that serves a request: the one whose number or
// label was asked for, else the numerically greatest. Its errors use the texts
// that clients of the protocol match on. It does not allocate on success.
func (t *Table[V]) Pick(name, version string) (V, error) {
	var none V
	m, ok := t.models[name]
	if !ok {
		return none, fault.New(fault.NotFound, "Request for unknown model: '%s' is not found", name).WithCode("model_not_found")
	}
	if version == "" {
		if n := len(m.Versions); n > 0 {
			return m.Versions[n-1].Value, nil
		}
		return none, fault.New(fault.Unavailable, "Request for unknown model: '%s' has no available versions", name).WithCode("model_not_ready")
	}
	for i := range m.Versions {
		if m.Versions[i].Text == version {
			return m.Versions[i].Value, nil
		}
	}
	if number, ok := m.Labels[version]; ok {
		for i := range m.Versions {
			if m.Versions[i].Number == number {
				return m.Versions[i].Value, nil
			}
		}
		return none, fault.New(fault.Unavailable, "'%s' version %d (label '%s') is not at ready state", name, number, version).WithCode("model_not_ready")
	}
	return none, fault.New(fault.NotFound, "Request for unknown model: '%s' version %s is not found", name, version).WithCode("version_not_found")
}
