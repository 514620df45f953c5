package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sluice/internal/platform/typo"
)

// Fits refuses a scenario that cannot be run with the options. Ours must have all models that it uses. Against a server
// that is there, it may need neither tenants, nodes nor restarts, and must assert more than memory, which is not measured.
func (s *Scenario) Fits(o Options) error {
	if o.HTTP == "" {
		return s.fitsOurs(o)
	}
	return s.fitsForeign(o)
}

// fitsOurs refuses models without files, and traffic and actions for models that are not served.
func (s *Scenario) fitsOurs(o Options) error {
	var served []string
	for _, m := range s.Server.Models {
		if _, err := os.Stat(filepath.Join(o.ModelDir(m.Name), "1")); err != nil {
			return fmt.Errorf("scenario %s: there is no model %q: %w", s.Name, m.Name, err)
		}
		served = append(served, m.Name)
	}
	for _, t := range s.Traffic {
		if !slices.Contains(served, t.Model) {
			return fmt.Errorf("scenario %s, traffic %s: %w", s.Name, t.Name, unknown("model in server.models", t.Model, served))
		}
	}
	for _, a := range s.Actions {
		i := slices.Index(served, a.Model)
		switch {
		case a.Do == "restart":
		case i < 0:
			return fmt.Errorf("scenario %s, action %s: %w", s.Name, a.Do, unknown("model in server.models", a.Model, served))
		case a.Do == "promote" && s.Server.Models[i].Versions < 2:
			return fmt.Errorf("scenario %s, action promote: model %s has one version: give it versions: 2", s.Name, a.Model)
		}
	}
	return nil
}

// unknown says that a name is not known, and which was probably meant.
func unknown(what, name string, known []string) error {
	if near := typo.Nearest(name, known); near != "" {
		return fmt.Errorf("there is no %s %q: did you mean %q?", what, name, near)
	}
	return fmt.Errorf("there is no %s %q, only %v", what, name, known)
}

func (s *Scenario) fitsForeign(o Options) error {
	if !slices.ContainsFunc(s.Assert, func(a Assertion) bool { return !a.ofMemory() }) {
		return fmt.Errorf("scenario %s asserts nothing but memory, which is not measured of a server that is there", s.Name)
	}
	if len(s.Server.Tenants) > 0 || s.Server.Nodes > 1 {
		return fmt.Errorf("scenario %s has tenants or nodes of its own: it cannot run against a server that is there", s.Name)
	}
	for _, a := range s.Actions {
		if a.Do == "restart" {
			return fmt.Errorf("scenario %s restarts nodes: it cannot run against a server that is there", s.Name)
		}
	}
	for _, t := range s.Traffic {
		if t.Protocol == "grpc" && o.GRPC == "" {
			return fmt.Errorf("traffic %s of scenario %s goes over gRPC: the server's address for it is missing (-grpc)", t.Name, s.Name)
		}
	}
	return nil
}
