package scenario

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
)

// Bounds of what a scenario may ask for: more is a slip, and would take all of the machine's memory.
const (
	mostTime        = time.Hour // each second of each traffic has histograms of its own
	mostConnections = 1 << 16
	mostRows        = 1 << 20
	mostRate        = 1e6 // arrivals per second: more than the generator can send
	leastBurst      = time.Millisecond
)

// plainName matches what may be part of a file's name.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (s *Scenario) check() error {
	switch {
	case s.Name == "" || len(s.Phases) == 0 || len(s.Traffic) == 0 || len(s.Assert) == 0:
		return fmt.Errorf("a scenario has a name, phases, traffic and something to assert")
	case !plainName.MatchString(s.Name):
		return fmt.Errorf("name %q: it names the reports' files: use letters, digits, points, dashes and underscores, and begin with a letter or digit", s.Name)
	case s.Server.Nodes < 0:
		return fmt.Errorf("server: there cannot be %d nodes", s.Server.Nodes)
	}
	if err := s.checkPhases(); err != nil {
		return err
	}
	for i := range s.Traffic {
		t := &s.Traffic[i]
		if s.traffic(t.Name) != t {
			return fmt.Errorf("traffic %q is there twice", t.Name)
		}
		if err := s.checkTraffic(t); err != nil {
			return fmt.Errorf("traffic %q: %w", t.Name, err)
		}
	}
	if c := s.Capacity; c != nil && (s.traffic(c.Of) == nil || c.Connections < 1 || c.Connections > mostConnections || c.For <= 0) {
		return fmt.Errorf("capacity: it needs the name of some traffic (of), 1 to %d connections, and a time (for)", mostConnections)
	}
	for _, a := range s.Actions {
		if err := s.checkAction(a); err != nil {
			return err
		}
	}
	for _, a := range s.Assert {
		if err := s.checkAssertion(a); err != nil {
			return fmt.Errorf("assert %s: %w", a, err)
		}
	}
	return nil
}

func (s *Scenario) checkPhases() error {
	for i, p := range s.Phases {
		switch {
		case p.For <= 0 || p.For > mostTime || p.Name == "" || p.Name == "all":
			return fmt.Errorf("phase %q: it needs a name other than all, and a time of at most %s", p.Name, mostTime)
		case s.phase(p.Name) != i:
			return fmt.Errorf("phase %q is there twice", p.Name)
		}
	}
	if s.length() > mostTime {
		return fmt.Errorf("all phases take %s, more than %s: for longer than that there is loadtest/soak", s.length(), mostTime)
	}
	return nil
}

func (s *Scenario) checkAction(a Action) error {
	switch {
	case !slices.Contains(doings, a.Do) || s.phase(a.Phase) < 0:
		return fmt.Errorf("action %q in phase %q: it must be one of %v, in one of the phases", a.Do, a.Phase, doings)
	case a.Do != "restart" && a.Model == "" || a.Do == "batch" && (a.Rows < 1 || a.Rows > mostRows) || a.Do == "restart" && s.Server.Nodes < 2:
		return fmt.Errorf("action %q: a restart needs a second node (nodes: 2), a batch a model and 1 to %d rows, all others a model", a.Do, mostRows)
	case a.After < 0:
		return fmt.Errorf("action %q: it cannot begin %s before its phase", a.Do, -a.After)
	}
	return nil
}

func (s *Scenario) checkTraffic(t *Traffic) error {
	switch {
	case t.Name == "" || t.Model == "":
		return fmt.Errorf("it needs a name and a model")
	case !slices.Contains(Protocols, t.Protocol):
		return unknown("protocol", t.Protocol, Protocols)
	case t.Arrivals != "poisson" && t.Arrivals != "constant":
		return fmt.Errorf("arrivals are poisson or constant, not %q", t.Arrivals)
	case t.Connections < 1 || t.Connections > mostConnections || t.Retries < 0 || t.SLO < 0:
		return fmt.Errorf("it needs 1 to %d connections, and retries and slo not below 0", mostConnections)
	case slices.Min(t.Rows) < 1 || slices.Max(t.Rows) > mostRows || slices.ContainsFunc(t.Tokens, func(n int) bool { return n < 1 || n > mostRows }):
		return fmt.Errorf("rows and tokens are 1 to %d", mostRows)
	case t.Tenant != "" && !slices.Contains(s.Server.Tenants, t.Tenant):
		return unknown("tenant", t.Tenant, s.Server.Tenants)
	case t.Tenant == "" && len(s.Server.Tenants) > 0:
		return fmt.Errorf("it needs one of the tenants %v", s.Server.Tenants)
	case t.Protocol == "slow" && t.Trickle < 1:
		return fmt.Errorf("slow clients need trickle, in bytes")
	case streams(t.Protocol) && t.Body == "":
		return fmt.Errorf("streams need a body")
	case t.Body != "" && !streams(t.Protocol) && t.Protocol != "async" && t.Protocol != "wait":
		return fmt.Errorf("requests of %s are made from the model's inputs, and have no body", t.Protocol)
	}
	if b := t.Burst; b != nil && (b.Every <= b.For || b.For < leastBurst || !(b.Factor >= 0) || math.IsInf(b.Factor, 0)) {
		return fmt.Errorf("a burst takes at least %s, less than what it repeats after, and its factor is at least 0", leastBurst)
	}
	return s.checkRates(t)
}

func (s *Scenario) checkRates(t *Traffic) error {
	sends := false
	for phase, r := range t.Rate {
		if phase != "all" && s.phase(phase) < 0 {
			return unknown("phase", phase, append(s.phaseNames(), "all"))
		}
		if r.Relative && s.Capacity == nil {
			return fmt.Errorf("a rate of %s needs the capacity to be measured", r)
		}
		if !r.Relative && r.Value > mostRate {
			return fmt.Errorf("%.3g requests a second are more than the generator can send: ask for at most %.0f", r.Value, mostRate)
		}
		sends = sends || r.Value > 0
	}
	if !sends {
		return fmt.Errorf("it needs a rate above 0 in some phase, such as rate: {all: 20}")
	}
	return nil
}

// checkLoad refuses rates that the generator cannot send, now that the capacity is known.
func (s *Scenario) checkLoad(capacity float64) error {
	for i := range s.Traffic {
		for _, step := range s.steps(&s.Traffic[i], capacity) {
			if step.Rate > mostRate {
				return fmt.Errorf("traffic %q: %.3g requests a second are more than the generator can send: ask for at most %.0f", s.Traffic[i].Name, step.Rate, mostRate)
			}
		}
	}
	return nil
}

// streams reports whether a protocol answers with events.
func streams(protocol string) bool { return protocol == "events" || protocol == "generate" }
