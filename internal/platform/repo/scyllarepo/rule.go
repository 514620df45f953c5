package scyllarepo

import (
	"slices"

	"sluice/internal/platform/spec"
)

// nothing is the rule that nothing satisfies.
var nothing = &spec.Any{}

// simplify returns a rule that says the same with negations only before what
// has no opposite, alternatives of one column as In, and no nested lists; nil
// for what everything satisfies.
func simplify(e spec.Expr) spec.Expr {
	switch e := e.(type) {
	case *spec.Compare:
		if e.Op == spec.In && len(e.Values) == 0 {
			return nothing
		}
	case *spec.All:
		return all(e.Of)
	case *spec.Any:
		return anyOf(e.Of)
	case *spec.Not:
		return negate(e)
	}
	return e
}

func all(of []spec.Expr) spec.Expr {
	var parts []spec.Expr
	for _, part := range of {
		part = simplify(part)
		if inner, ok := part.(*spec.All); ok {
			parts = append(parts, inner.Of...)
		} else if part != nil {
			parts = append(parts, part)
		}
		if isNothing(part) {
			return nothing
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return &spec.All{Of: parts}
}

func anyOf(of []spec.Expr) spec.Expr {
	var parts []spec.Expr
	for _, part := range of {
		part = simplify(part)
		if part == nil {
			return nil
		}
		if inner, ok := part.(*spec.Any); ok {
			parts = append(parts, inner.Of...)
		} else {
			parts = append(parts, part)
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	var in *spec.Compare
	for _, part := range parts {
		c, ok := part.(*spec.Compare)
		if !ok || c.Op != spec.Eq && c.Op != spec.In || in != nil && c.Field != in.Field {
			return &spec.Any{Of: parts}
		}
		if in == nil {
			in = &spec.Compare{Field: c.Field, Op: spec.In}
		}
		in.Values = append(in.Values, c.Values...)
	}
	if in == nil {
		return nothing
	}
	return in
}

func negate(e *spec.Not) spec.Expr {
	switch of := simplify(e.Of).(type) {
	case nil:
		return nothing
	case *spec.Not:
		return of.Of
	case *spec.Any: // none of them
		parts := make([]spec.Expr, len(of.Of))
		for i, part := range of.Of {
			parts[i] = &spec.Not{Of: part}
		}
		return all(parts)
	case *spec.Compare:
		if op, ok := opposite[of.Op]; ok {
			return &spec.Compare{Field: of.Field, Op: op, Values: of.Values}
		}
		return &spec.Not{Of: of}
	default:
		return &spec.Not{Of: of}
	}
}

var opposite = map[spec.Op]spec.Op{spec.Lt: spec.Ge, spec.Le: spec.Gt, spec.Gt: spec.Le, spec.Ge: spec.Lt}

func isNothing(e spec.Expr) bool {
	list, ok := e.(*spec.Any)
	return ok && len(list.Of) == 0
}

// conditions splits a simplified rule into those that all have to hold.
func conditions(e spec.Expr) []spec.Expr {
	switch e := e.(type) {
	case nil:
		return nil
	case *spec.All:
		return e.Of
	default:
		return []spec.Expr{e}
	}
}

// on takes the comparisons of a column out of conditions.
func on(column string, of []spec.Expr) (mine []*spec.Compare, rest []spec.Expr) {
	for _, e := range of {
		if c, ok := e.(*spec.Compare); ok && c.Field == column {
			mine = append(mine, c)
		} else {
			rest = append(rest, e)
		}
	}
	return mine, rest
}

// equal returns the place of the first condition that is an equality, -1 for none.
func equal(of []spec.Expr) int {
	return slices.IndexFunc(of, func(e spec.Expr) bool {
		c, ok := e.(*spec.Compare)
		return ok && (c.Op == spec.Eq || c.Op == spec.In)
	})
}
