package spec

import "time"

// Spec is a rule that a T satisfies or not. The zero Spec is satisfied by
// everything. A Spec is immutable.
type Spec[T any] struct {
	expr  Expr
	match func(*T) bool
}

// Match says whether t satisfies the rule.
func (s Spec[T]) Match(t *T) bool { return s.match == nil || s.match(t) }

// Expr returns the rule's tree, for adapters to compile.
func (s Spec[T]) Expr() Expr { return s.expr }

// And is satisfied by what satisfies all of the rules; by everything, of none.
func And[T any](rules ...Spec[T]) Spec[T] {
	return Spec[T]{&All{exprs(rules)}, func(t *T) bool {
		for _, s := range rules {
			if !s.Match(t) {
				return false
			}
		}
		return true
	}}
}

// Or is satisfied by what satisfies at least one of the rules; by nothing, of
// none.
func Or[T any](rules ...Spec[T]) Spec[T] {
	return Spec[T]{&Any{exprs(rules)}, func(t *T) bool {
		for _, s := range rules {
			if s.Match(t) {
				return true
			}
		}
		return false
	}}
}

// Negate is satisfied by what does not satisfy the rule.
func Negate[T any](s Spec[T]) Spec[T] {
	return Spec[T]{&Not{s.expr}, func(t *T) bool { return !s.Match(t) }}
}

// Lift makes a rule over U of one over a T that every U has.
func Lift[T, U any](s Spec[T], part func(*U) *T) Spec[U] {
	return Spec[U]{s.expr, func(u *U) bool { return s.Match(part(u)) }}
}

func exprs[T any](rules []Spec[T]) []Expr {
	out := make([]Expr, len(rules))
	for i, s := range rules {
		out[i] = s.expr
	}
	return out
}

// Field is a named field of T with values of type V, that rules and orders are
// made of. Make one with TextField, IntField, FloatField, BoolField or
// TimeField.
type Field[T, V any] struct {
	name  string
	typ   Type
	get   func(*T) V
	value func(V) Value
}

// TextField is a field of text, or of a type made of it.
func TextField[T any, S ~string](name string, get func(*T) S) Field[T, S] {
	return Field[T, S]{name, TypeText, get, func(s S) Value { return TextValue(string(s)) }}
}

// IntField is a field of integers.
func IntField[T any, N ~int | ~int32 | ~int64](name string, get func(*T) N) Field[T, N] {
	return Field[T, N]{name, TypeInt, get, func(n N) Value { return IntValue(int64(n)) }}
}

// FloatField is a field of floats.
func FloatField[T any](name string, get func(*T) float64) Field[T, float64] {
	return Field[T, float64]{name, TypeFloat, get, FloatValue}
}

// BoolField is a field of booleans.
func BoolField[T any](name string, get func(*T) bool) Field[T, bool] {
	return Field[T, bool]{name, TypeBool, get, BoolValue}
}

// TimeField is a field of times, compared by microseconds.
func TimeField[T any](name string, get func(*T) time.Time) Field[T, time.Time] {
	return Field[T, time.Time]{name, TypeTime, get, TimeValue}
}

// Name returns the field's name, as it stands in trees and tables.
func (f Field[T, V]) Name() string { return f.name }

// Type returns the type of the field's values.
func (f Field[T, V]) Type() Type { return f.typ }

// Of returns the field's value of t.
func (f Field[T, V]) Of(t *T) Value { return f.value(f.get(t)) }

// Eq is satisfied where the field equals v.
func (f Field[T, V]) Eq(v V) Spec[T] { return f.compare(Eq, v) }

// Lt is satisfied where the field is less than v.
func (f Field[T, V]) Lt(v V) Spec[T] { return f.compare(Lt, v) }

// Le is satisfied where the field is at most v.
func (f Field[T, V]) Le(v V) Spec[T] { return f.compare(Le, v) }

// Gt is satisfied where the field is more than v.
func (f Field[T, V]) Gt(v V) Spec[T] { return f.compare(Gt, v) }

// Ge is satisfied where the field is at least v.
func (f Field[T, V]) Ge(v V) Spec[T] { return f.compare(Ge, v) }

// In is satisfied where the field equals one of the values.
func (f Field[T, V]) In(values ...V) Spec[T] { return f.compare(In, values...) }

// StartsWith is satisfied where the field starts with the text. It panics on a
// field that does not hold text: a defect.
func (f Field[T, V]) StartsWith(prefix V) Spec[T] {
	if f.typ != TypeText {
		panic("spec: StartsWith on " + f.name + ", which holds no text")
	}
	return f.compare(Prefix, prefix)
}

func (f Field[T, V]) compare(op Op, values ...V) Spec[T] {
	c := &Compare{Field: f.name, Op: op, Values: make([]Value, len(values))}
	for i, v := range values {
		c.Values[i] = f.value(v)
	}
	return Spec[T]{c, func(t *T) bool { return c.holds(f.Of(t)) }}
}

// Where is satisfied where a column compares with the values as op says: for
// rules that are not known before the program runs. There is one value unless
// op is In, and they have the column's type.
func Where[T any](column Column[T], op Op, values ...Value) Spec[T] {
	c := &Compare{Field: column.Name(), Op: op, Values: values}
	return Spec[T]{c, func(t *T) bool { return c.holds(column.Of(t)) }}
}

// Asc orders by the field, the least first.
func (f Field[T, V]) Asc() Order[T] { return Order[T]{Field: f.name} }

// Desc orders by the field, the greatest first.
func (f Field[T, V]) Desc() Order[T] { return Order[T]{Field: f.name, Descending: true} }

// Order says in which order a T comes: by a field, and where that is equal by
// id, in the same direction. The zero Order is by id alone, which for ids made
// by time means by age.
type Order[T any] struct {
	Field      string // empty: by id alone
	Descending bool
}

// Column is a Field of any type of values, as stores list them.
type Column[T any] interface {
	Name() string
	Type() Type
	Of(*T) Value
}
