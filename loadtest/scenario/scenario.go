// Package scenario runs load tests that are described in files: a server with
// some models, phases, traffic in each of them, things that happen meanwhile,
// and what must hold. A run measures, writes a report, and fails where something
// did not hold.
//
// Rates may be multiples of what the server can do, which is measured first: so
// a scenario means the same on any machine. Everything else about the
// measurement is package load's: an open loop, and latency from the time at
// which a request was due.
//
// Limits: servers on this machine only. A server that the run has not started can be
// neither restarted, given tenants nor measured for memory: scenarios that need the
// first two are refused, and assertions about memory are left out. Answers are
// compared with those that the server gave at rest, so a server that is always wrong passes.
package scenario

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"
)

// Scenario is the content of a file.
type Scenario struct {
	Name  string `yaml:"name"`
	About string `yaml:"about"`
	// Server says how ours is started.
	Server Server `yaml:"server"`
	// Capacity says what rates in multiples are multiples of.
	Capacity *Capacity   `yaml:"capacity"`
	Phases   []Phase     `yaml:"phases"`
	Traffic  []Traffic   `yaml:"traffic"`
	Actions  []Action    `yaml:"actions"`
	Assert   []Assertion `yaml:"assert"`
}

// Server is what is started for the scenario.
type Server struct {
	Nodes   int               `yaml:"nodes"`   // 0 means one; more stand behind a balancer that asks /readyz
	Env     map[string]string `yaml:"env"`     // further settings
	Tenants []string          `yaml:"tenants"` // with a key each; authentication is required then
	Models  []Model           `yaml:"models"`
}

// Model is a model that is served.
type Model struct {
	Name     string `yaml:"name"`
	Versions int    `yaml:"versions"` // copies of the file, served beside each other; 0 means one
	Config   string `yaml:"config"`   // instead of the model's own config.yaml
}

// Capacity is measured by a closed loop over a few connections.
type Capacity struct {
	Of          string        `yaml:"of"` // name of traffic, whose requests it sends
	Connections int           `yaml:"connections"`
	For         time.Duration `yaml:"for"`
}

// Phase is a time with a name.
type Phase struct {
	Name string        `yaml:"name"`
	For  time.Duration `yaml:"for"`
}

// Traffic is requests of one kind.
type Traffic struct {
	Name        string          `yaml:"name"`
	Model       string          `yaml:"model"`
	Protocol    string          `yaml:"protocol"` // one of Protocols
	Rows        []int           `yaml:"rows"`     // of the requests in turn; none means 1
	Tokens      []int           `yaml:"tokens"`   // length of what may vary beside the rows, in turn
	Body        string          `yaml:"body"`     // instead of rows and tokens: the JSON that is sent, for wait, async, events and generate
	Arrivals    string          `yaml:"arrivals"` // poisson, or constant
	Rate        map[string]Rate `yaml:"rate"`     // by phase; "all" for those that have none of their own
	Burst       *Burst          `yaml:"burst"`
	Connections int             `yaml:"connections"` // 0 means 64
	SLO         time.Duration   `yaml:"slo"`         // for goodput; 0 counts all
	Retries     int             `yaml:"retries"`     // of a refused request, at once
	Tenant      string          `yaml:"tenant"`
	Trickle     int             `yaml:"trickle"` // of slow: bytes sent every 100 ms
}

// Burst multiplies the rate at the beginning of every period.
type Burst struct {
	Every  time.Duration `yaml:"every"`
	For    time.Duration `yaml:"for"`
	Factor float64       `yaml:"factor"`
}

// Action is something that happens during a phase.
type Action struct {
	Do    string        `yaml:"do"`    // restart, promote, reload or batch
	Phase string        `yaml:"phase"` // in which it begins
	After time.Duration `yaml:"after"` // from the phase's beginning
	Model string        `yaml:"model"`
	Rows  int           `yaml:"rows"` // of a batch
}

// Protocols are the kinds of traffic: the Open Inference Protocol over HTTP in JSON, with
// binary tensors and over gRPC; predictions of the native API that are accepted, waited for, or
// streamed as events; generate_stream of the protocol's extension; and slow clients.
var Protocols = []string{"json", "binary", "grpc", "async", "wait", "events", "generate", "slow"}

var doings = []string{"restart", "promote", "reload", "batch"}

// Read reads and checks a scenario.
func Read(path string) (*Scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Parse reads and checks a scenario. What it does not know is an error.
func Parse(text []byte) (*Scenario, error) {
	var s Scenario
	if err := yaml.Load(text, &s, yaml.WithKnownFields()); err != nil {
		return nil, err
	}
	s.fill()
	return &s, s.check()
}

// fill sets what the file leaves out.
func (s *Scenario) fill() {
	if s.Server.Nodes == 0 {
		s.Server.Nodes = 1
	}
	for i := range s.Traffic {
		t := &s.Traffic[i]
		t.Connections = cmp.Or(t.Connections, 64)
		t.Arrivals = cmp.Or(t.Arrivals, "poisson")
		if len(t.Rows) == 0 {
			t.Rows = []int{1}
		}
	}
}

// phase returns the index of a phase, -1 if there is none.
func (s *Scenario) phase(name string) int {
	return slices.IndexFunc(s.Phases, func(p Phase) bool { return p.Name == name })
}

func (s *Scenario) traffic(name string) *Traffic {
	i := slices.IndexFunc(s.Traffic, func(t Traffic) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Traffic[i]
}

func (s *Scenario) trafficNames() (names []string) {
	for _, t := range s.Traffic {
		names = append(names, t.Name)
	}
	return names
}

func (s *Scenario) phaseNames() (names []string) {
	for _, p := range s.Phases {
		names = append(names, p.Name)
	}
	return names
}

// length is how long all phases take.
func (s *Scenario) length() (d time.Duration) {
	for _, p := range s.Phases {
		d += p.For
	}
	return d
}

// begins is when a phase begins.
func (s *Scenario) begins(phase int) (d time.Duration) {
	for _, p := range s.Phases[:phase] {
		d += p.For
	}
	return d
}

// Shorten makes every phase take a part of its time, at least two seconds.
func (s *Scenario) Shorten(part float64) {
	for i := range s.Phases {
		s.Phases[i].For = max(time.Duration(part*float64(s.Phases[i].For)), min(s.Phases[i].For, 2*time.Second))
	}
}
