package spec

import (
	"slices"
	"strings"
)

// Expr is the tree of a specification, for adapters to compile: one of *Compare,
// *All, *Any and *Not, or nil, which everything satisfies.
type Expr interface{ sealed() }

// Op is how a Compare compares.
type Op uint8

// The operators. Prefix is for text alone.
const (
	Eq Op = iota
	Lt
	Le
	Gt
	Ge
	In // equal to one of the values
	Prefix
)

// String returns the operator as a query would show it.
func (o Op) String() string {
	return [...]string{"=", "<", "<=", ">", ">=", "in", "prefix"}[min(o, Prefix)]
}

// Compare compares a field with one value, or with several where Op is In; none
// is equal to one of no values.
type Compare struct {
	Field  string
	Op     Op
	Values []Value
}

// All is satisfied by what satisfies every part.
type All struct{ Of []Expr }

// Any is satisfied by what satisfies at least one part.
type Any struct{ Of []Expr }

// Not is satisfied by what does not satisfy Of.
type Not struct{ Of Expr }

func (*Compare) sealed() {}
func (*All) sealed()     {}
func (*Any) sealed()     {}
func (*Not) sealed()     {}

// Eval says whether e is satisfied by something with these field values.
func Eval(e Expr, field func(name string) Value) bool {
	holds := func(part Expr) bool { return Eval(part, field) }
	switch e := e.(type) {
	case *Compare:
		return e.holds(field(e.Field))
	case *All:
		return !slices.ContainsFunc(e.Of, func(part Expr) bool { return !holds(part) })
	case *Any:
		return slices.ContainsFunc(e.Of, holds)
	case *Not:
		return !holds(e.Of)
	default:
		return true
	}
}

func (c *Compare) holds(v Value) bool {
	if c.Op == In {
		return slices.ContainsFunc(c.Values, func(w Value) bool { return v.Compare(w) == 0 })
	}
	w := c.Values[0]
	switch c.Op {
	case Eq:
		return v.Compare(w) == 0
	case Lt:
		return v.Compare(w) < 0
	case Le:
		return v.Compare(w) <= 0
	case Gt:
		return v.Compare(w) > 0
	case Ge:
		return v.Compare(w) >= 0
	default:
		return strings.HasPrefix(v.Text, w.Text)
	}
}

// Text returns e as text: equal trees have equal texts.
func Text(e Expr) string {
	var b strings.Builder
	write(&b, e)
	return b.String()
}

func write(b *strings.Builder, e Expr) {
	list := func(word string, of []Expr) {
		b.WriteString(word)
		b.WriteByte('(')
		for i, part := range of {
			if i > 0 {
				b.WriteString(", ")
			}
			write(b, part)
		}
		b.WriteByte(')')
	}
	switch e := e.(type) {
	case *Compare:
		b.WriteString(e.Field + " " + e.Op.String())
		for _, v := range e.Values {
			b.WriteString(" " + v.String())
		}
	case *All:
		list("all", e.Of)
	case *Any:
		list("any", e.Of)
	case *Not:
		list("not", []Expr{e.Of})
	default:
		b.WriteString("everything")
	}
}
