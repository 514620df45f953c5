// Package load generates load cheaply enough to share a machine with the server
// under test: requests are bytes made beforehand, each connection is one
// goroutine, and over HTTP a request allocates nothing.
//
// A Pool of connections offers load in two ways. Closed keeps every connection
// busy, which measures capacity and cost. Open sends at a given rate whatever
// the server does, and counts latency from the time at which a request was
// due, so that a slow server cannot slow down its own measurement (no coordinated
// omission). Times go into histograms with logarithmic buckets (Histogram).
//
// Connections are of several kinds: Dial's speak HTTP/1.1, those of GRPC the
// protocol over gRPC, Events' read an answer event by event, Slow's take their
// time, and those of a Balancer look for a server that is ready.
//
// Known limits: no TLS, and loopback targets only.
package load

import (
	"fmt"
	"net"
	"time"
)

// Load is what a run sends.
type Load struct {
	// Requests are sent in turn; each connection starts at another one.
	Requests []*Request
	// CheckEvery checks the first answer of each connection and then every
	// n-th one with the request's Check; 0 means 64.
	CheckEvery int
	// SLO is the latency up to which an answer counts as good; 0 counts all.
	SLO time.Duration
	// Status is that of the answers that count as OK; 0 means 200.
	Status int
	// Backoff is how long a connection of a closed loop waits after a refusal,
	// as a client does that heeds Retry-After; 0 sends the next at once.
	Backoff time.Duration
	// Ramp is the time at the start of an open loop that goodput leaves out:
	// an empty server takes more in than it can keep up.
	Ramp time.Duration
	// Retries is how often a refused request is sent again at once, as careless
	// clients do; its latency goes on counting.
	Retries int
	// Seen is told of every request at its end; nil tells nobody. Several
	// goroutines call it.
	Seen func(Sample)
}

// Outcome is what became of a request.
type Outcome int

// What may become of a request.
const (
	OK      Outcome = iota // status Load.Status, and a right answer where it was checked
	Refused                // status 429 or 503
	Failed                 // anything else: other status, broken connection, wrong answer
	Unsent                 // due, but every connection and the backlog were taken
)

// Sample is one request of a run.
type Sample struct {
	Due     time.Time // in a closed loop: sent
	Latency time.Duration
	First   time.Duration // to the first event of an answer that has events, else 0
	Timing  Timing        // what the server says of it
	Outcome Outcome
	Err     error // of a failed one
}

// Request is a request in its wire form and what its answer must be. Over HTTP
// that is all of it; over gRPC the message.
type Request struct {
	Wire []byte
	// Check judges an answer that is OK by its status; nil accepts any.
	Check func(Answer) error
}

// Result is what a run saw. Every request sent is in exactly one of OK,
// Refused and Failed.
type Result struct {
	Duration time.Duration // until the last answer in a closed loop, as asked for in an open one
	Window   time.Duration // the part of it in which Good was counted
	Due      int           // requests that the run was to send
	Unsent   int           // due, but every connection and the backlog were taken
	OK       int           // status Load.Status
	Good     int           // OK within the SLO, answered in the window
	Refused  int           // status 429 or 503
	Failed   int           // anything else: other status, broken connection, wrong answer
	Checked  int           // answers that Check has seen
	// Redialled counts connections that the server had closed while they were
	// idle; their requests were sent again.
	Redialled int
	Retried   int // refusals that were followed by another try

	Latency *Histogram // of OK answers
	First   *Histogram // of those that have events: to the first
	Refusal *Histogram // of refusals
	Lag     *Histogram // open loop: how late the generator was itself, without what the server had it wait for

	// Err is the first failure, nil if Failed is 0.
	Err error
}

// Rate returns the answers that were OK per second.
func (r *Result) Rate() float64 { return perSecond(r.OK, r.Duration) }

// Goodput returns the answers within the SLO per second.
func (r *Result) Goodput() float64 { return perSecond(r.Good, r.Window) }

func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func newResult() *Result {
	return &Result{Latency: new(Histogram), First: new(Histogram), Refusal: new(Histogram), Lag: new(Histogram)}
}

// Add merges another run, as if one had followed the other. The zero value may
// be added to.
func (r *Result) Add(o *Result) {
	if r.Latency == nil {
		r.Latency, r.First, r.Refusal, r.Lag = new(Histogram), new(Histogram), new(Histogram), new(Histogram)
	}
	r.Duration += o.Duration
	r.Window += o.Window
	r.Due += o.Due
	r.Unsent += o.Unsent
	r.OK += o.OK
	r.Good += o.Good
	r.Refused += o.Refused
	r.Failed += o.Failed
	r.Checked += o.Checked
	r.Redialled += o.Redialled
	r.Retried += o.Retried
	r.Latency.Add(o.Latency)
	r.First.Add(o.First)
	r.Refusal.Add(o.Refusal)
	r.Lag.Add(o.Lag)
	if r.Err == nil {
		r.Err = o.Err
	}
}

// loopback refuses targets that are not this machine: a load generator aimed
// elsewhere by mistake is an attack.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("load: target %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("load: target %q is not a loopback address (127.0.0.1:port, [::1]:port)", addr)
	}
	return nil
}
