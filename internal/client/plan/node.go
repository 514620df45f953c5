package plan

import (
	"math"
	"math/rand/v2"
)

// node simulates one node by its events.
//
// A request is handled (decoded), waits for a run, runs with others and is handled again
// (encoded). As many requests are handled at a time as there are cores, in their
// order, which is how Go runs its goroutines. They and the runs, which have threads of their own,
// share the cores evenly, which is what the system does. Whatever is done therefore
// progresses at the same speed, and one clock of work done tells when each thing ends.
type node struct {
	*model
	rng     *rand.Rand
	now     float64    // seconds
	done    float64    // seconds of work that each thing in progress would have behind it by now, had it been there since the start
	doing   []thing    // few: executors, and handlings on as many cores as there are
	first   int        // of doing: what ends first
	ready   []handling // waits for a core; first in, first out
	coming  int        // of ready: not yet decoded
	handled int        // at the time
	waiting []int      // requests that may run
	running int

	there    int // requests that have come and are not answered
	runs     int
	requests int
	busy     float64 // seconds of cores
}

// handling is the work on a request before or after its run.
type handling struct {
	request int
	after   bool
	wake    bool // no other was handled when it came
}

// thing is in progress: a run of some requests, or the handling of one.
type thing struct {
	end float64 // on the clock of work
	handling
	batch []int // nil for a handling
}

// speed is how much of a core each thing in progress has.
func (n *node) speed() float64 { return min(1, n.cores/float64(max(len(n.doing), 1))) }

// next is when something ends, unless something else begins before.
func (n *node) next() float64 {
	if len(n.doing) == 0 {
		return math.Inf(1)
	}
	return n.now + max(n.doing[n.first].end-n.done, 0)/n.speed()
}

// until lets time pass.
func (n *node) until(at float64) {
	passed := at - n.now
	n.done += passed * n.speed()
	n.busy += passed * n.speed() * float64(len(n.doing))
	n.now = at
}

func (n *node) begin(t thing, work float64) {
	t.end = n.done + work
	n.doing = append(n.doing, t)
	if t.end < n.doing[n.first].end {
		n.first = len(n.doing) - 1
	}
}

// end takes out what ends first.
func (n *node) end() thing {
	t := n.doing[n.first]
	last := len(n.doing) - 1
	n.doing[n.first] = n.doing[last]
	n.doing[last] = thing{}
	n.doing = n.doing[:last]
	n.first = 0
	for i := range n.doing {
		if n.doing[i].end < n.doing[n.first].end {
			n.first = i
		}
	}
	return t
}

// arrive takes in a request.
func (n *node) arrive(request int) {
	n.there++
	n.coming++
	n.ready = append(n.ready, handling{request: request, wake: n.handled == 0})
	n.dispatch()
}

// step ends what is due, and returns the request that was answered, if one was.
func (n *node) step() (answered int, ok bool) {
	t := n.end()
	switch {
	case t.batch != nil:
		n.running--
		for _, r := range t.batch {
			n.ready = append(n.ready, handling{request: r, after: true})
		}
	case t.after:
		n.handled--
		n.there--
		answered, ok = t.request, true
	default:
		n.handled--
		n.waiting = append(n.waiting, t.request)
	}
	n.dispatch()
	return answered, ok
}

// dispatch begins whatever can begin.
func (n *node) dispatch() {
	for len(n.ready) > 0 && n.handled < max(int(math.Ceil(n.cores)), 1) {
		h := n.ready[0]
		n.ready = n.ready[1:]
		work := n.Request.Seconds() / 2
		if !h.after {
			n.coming--
		}
		if h.wake {
			work += n.Wake.Seconds()
		}
		n.handled++
		n.begin(thing{handling: h}, work)
	}
	for len(n.waiting) > 0 && n.running < n.parallel && !n.waits(len(n.waiting), n.running, n.coming) {
		b := min(len(n.waiting), n.most)
		work := n.model.runs[n.running][b-1] * math.Exp(n.sigma*n.rng.NormFloat64())
		n.begin(thing{batch: n.waiting[:b:b]}, work)
		n.waiting = n.waiting[b:]
		n.running++
		n.runs++
		n.requests += b
	}
}
