package serve

import (
	"slices"
	"testing"

	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// While a graph runs, a model that it has yet to ask makes room for others only where nothing
// else can, however long ago it was used.
func TestWhatAGraphIsAboutToNeedStays(t *testing.T) {
	s := New(nil, nil, Config{Memory: 25})
	port := func(name string) []model.Port {
		return []model.Port{{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{4}}}
	}
	sig := model.Signature{Inputs: port("x"), Outputs: port("y")}
	loaded := func(name string, used int64) *offered {
		v := &Version{Name: name, Number: 1, Text: "1", Stats: new(Stats), Signature: sig, runtime: machinery{graph: new(graph.Graph), closed: make(chan struct{})}}
		v.Stats.LastInference.Store(used)
		v.refs.Store(1)
		o := &offered{Offer: Offer{Number: 1}, cold: v, live: v, size: 10}
		m := s.state(name)
		s.update(func() {
			m.offers = map[int64]*offered{1: o}
			s.publish(name, m)
		})
		return o
	}
	next, idle, last := loaded("next", 1), loaded("idle", 2), loaded("last", 3)
	spec, err := model.ParseGraph([]byte("inputs: [x]\noutputs: [y]\nnodes: [{name: only, model: next}]\n"), "g")
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := graph.Compile("g", &spec, s.Member, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := s.keep(compiled)
	there := func() (names []string) {
		for _, o := range []*offered{next, idle, last} {
			if o.live != nil {
				names = append(names, o.cold.Name)
			}
		}
		return names
	}
	s.makeRoom(t.Context(), 0, last)
	if got := there(); !slices.Equal(got, []string{"next", "last"}) {
		t.Errorf("%v stay while the graph runs", got)
	}
	s.makeRoom(t.Context(), 10, last)
	if got := there(); !slices.Equal(got, []string{"last"}) {
		t.Errorf("%v stay where nothing else can go", got)
	}
	if end(); next.cold.Stats.wanted.Load() != 0 {
		t.Error("it is kept for ever")
	}
}
