package model

import "strings"

// paramFallback is the parameter of Triton's configuration for Config.Fallback.
const paramFallback = "sluice.fallback" // name@version

// Fallback names the cheaper variant that answers what a model refuses for load. The
// zero value is none.
type Fallback struct {
	Model   string // empty: the model itself
	Version string // its number, alias or label; empty: whichever serves requests that name none
}

// String is the reference that it is read from: name, name@version or @version.
func (f Fallback) String() string {
	if f.Version == "" {
		return f.Model
	}
	return f.Model + "@" + f.Version
}

// fallback reads a reference to another model, or another version of this one.
func (s *section) fallback(text string) Fallback {
	if text == "" {
		return Fallback{}
	}
	f := Fallback{}
	f.Model, f.Version = Reference(text)
	if f.Model == "" && f.Version == "" || strings.HasSuffix(text, "@") {
		s.fail(s.node.line, s.path, "a fallback is name, name@version or @version, got %.80q", text)
	}
	if f.Model != "" {
		if err := ValidName(f.Model); err != nil {
			s.fail(s.node.line, s.path, "fallback: %s", err)
		}
	}
	if strings.Trim(f.Version, "0123456789") != "" {
		if err := validLabel(f.Version); err != nil {
			s.fail(s.node.line, s.path, "fallback: %s", err)
		}
	}
	return f
}

// checkFallback says why a configuration cannot have the fallback that it names.
func (c *Config) checkFallback() error {
	switch {
	case c.Fallback == Fallback{}:
	case c.Sequence != nil || c.Generate != nil:
		return failure(c.source(), 0, "fallback", "a model that keeps state or answers step by step has none: another could not go on where it was")
	case c.Fallback.Version == "" && c.Fallback.Model == c.Name:
		return failure(c.source(), 0, "fallback", "model %q cannot fall back to itself: name another model, or a version of this one as @version", c.Name)
	}
	return nil
}
