package plan

import "math/rand/v2"

// Balance is how a balancer chooses a node for a request.
type Balance string

// The ways to choose.
const (
	Random     Balance = "random"
	RoundRobin Balance = "round robin"
	// LeastOfTwo takes the one of two random nodes that has fewer requests.
	LeastOfTwo Balance = "least of two"
)

func (b Balance) choose(nodes []*node, request int, rng *rand.Rand) *node {
	switch b {
	case RoundRobin:
		return nodes[request%len(nodes)]
	case LeastOfTwo:
		x, y := nodes[rng.IntN(len(nodes))], nodes[rng.IntN(len(nodes))]
		if y.there < x.there {
			return y
		}
		return x
	}
	return nodes[rng.IntN(len(nodes))]
}

// Cluster returns what so many nodes behind a balancer do at a rate of requests per
// second that they get together. PerNode and Peak are of one of them.
func Cluster(n Node, d Demand, nodes int, b Balance) (Plan, error) {
	m, err := newModel(n, d)
	if err != nil {
		return Plan{}, err
	}
	if err := m.below(n, d.Rate/float64(nodes)); err != nil {
		return Plan{}, err
	}
	return m.plan(nodes, m.cluster(d.Rate, nodes, b)), nil
}
