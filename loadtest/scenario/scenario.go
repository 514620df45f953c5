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
// Limits: servers on this machine only. Against a server that it has not started
// itself it can neither restart nodes nor measure memory, and refuses scenarios
// that need it. Answers are compared with those that the server gave at rest.
package scenario

import (
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
	Protocol    string          `yaml:"protocol"` // json, binary, grpc, async, wait, events or slow
	Rows        []int           `yaml:"rows"`     // of the requests in turn; none means 1
	Tokens      []int           `yaml:"tokens"`   // length of what may vary beside the rows, in turn
	Body        string          `yaml:"body"`     // instead of rows and tokens: the JSON that is sent, for wait, async and events
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

// Protocols are the kinds of traffic.
var Protocols = []string{"json", "binary", "grpc", "async", "wait", "events", "slow"}

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
	return &s, s.check()
}

func (s *Scenario) check() error {
	if s.Name == "" || len(s.Phases) == 0 || len(s.Traffic) == 0 || len(s.Assert) == 0 {
		return fmt.Errorf("a scenario has a name, phases, traffic and something to assert")
	}
	if s.Server.Nodes == 0 {
		s.Server.Nodes = 1
	}
	for _, p := range s.Phases {
		if p.For <= 0 || p.Name == "" || p.Name == "all" {
			return fmt.Errorf("phase %q: it needs a name and a time", p.Name)
		}
	}
	for i := range s.Traffic {
		if err := s.checkTraffic(&s.Traffic[i]); err != nil {
			return fmt.Errorf("traffic %q: %w", s.Traffic[i].Name, err)
		}
	}
	if c := s.Capacity; c != nil && (s.traffic(c.Of) == nil || c.Connections < 1 || c.For <= 0) {
		return fmt.Errorf("capacity: it is of some traffic, over some connections, for some time")
	}
	for _, a := range s.Actions {
		if !slices.Contains(doings, a.Do) || s.phase(a.Phase) < 0 {
			return fmt.Errorf("action %q in phase %q: what can be done is %v, in one of the phases", a.Do, a.Phase, doings)
		}
		if a.Do != "restart" && a.Model == "" || a.Do == "batch" && a.Rows < 1 || a.Do == "restart" && s.Server.Nodes < 2 {
			return fmt.Errorf("action %q: it needs a model, a batch some rows, and a restart a second node", a.Do)
		}
	}
	for _, a := range s.Assert {
		if err := s.checkAssertion(a); err != nil {
			return fmt.Errorf("assert %s: %w", a, err)
		}
	}
	return nil
}

func (s *Scenario) checkTraffic(t *Traffic) error {
	if t.Connections == 0 {
		t.Connections = 64
	}
	if len(t.Rows) == 0 {
		t.Rows = []int{1}
	}
	if t.Arrivals == "" {
		t.Arrivals = "poisson"
	}
	switch {
	case t.Name == "" || t.Model == "":
		return fmt.Errorf("it needs a name and a model")
	case !slices.Contains(Protocols, t.Protocol):
		return fmt.Errorf("protocol %q is none of %v", t.Protocol, Protocols)
	case t.Arrivals != "poisson" && t.Arrivals != "constant":
		return fmt.Errorf("arrivals are poisson or constant, not %q", t.Arrivals)
	case t.Connections < 1 || t.Retries < 0 || slices.Min(t.Rows) < 1:
		return fmt.Errorf("connections and rows are at least 1, retries at least 0")
	case t.Tenant != "" && !slices.Contains(s.Server.Tenants, t.Tenant):
		return fmt.Errorf("there is no tenant %q", t.Tenant)
	case t.Tenant == "" && len(s.Server.Tenants) > 0:
		return fmt.Errorf("it needs one of the tenants")
	case t.Protocol == "slow" && t.Trickle < 1:
		return fmt.Errorf("slow clients need trickle, in bytes")
	case t.Protocol == "events" && t.Body == "":
		return fmt.Errorf("events need a body")
	case t.Burst != nil && (t.Burst.Every <= t.Burst.For || t.Burst.For <= 0):
		return fmt.Errorf("a burst is shorter than what it repeats after")
	}
	for phase, r := range t.Rate {
		if phase != "all" && s.phase(phase) < 0 {
			return fmt.Errorf("there is no phase %q", phase)
		}
		if r.Relative && s.Capacity == nil {
			return fmt.Errorf("a rate of %s needs the capacity to be measured", r)
		}
	}
	return nil
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
