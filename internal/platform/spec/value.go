// Package spec has composable specifications: rules over the fields of a type
// that are matched in memory and compiled by the adapters of a store.
//
//	live := spec.And(Name.StartsWith("a"), spec.Negate(Plan.Eq("free")))
//	live.Match(&tenant)                              // in memory
//	spec.Query[Tenant]{Where: live, Order: Name.Asc()} // in a store
//
// The tree of a specification is sealed, so that an adapter can tell whether it
// knows all of it: what it cannot do well it refuses with ErrUnsupported, rather
// than scan in silence. Fields hold text, integers, floats, booleans or times;
// nothing is null, and lists and joins are not offered.
package spec

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"sluice/internal/platform/fault"
)

// ErrUnsupported is returned, wrapped with what it is about, where a store
// cannot answer a query without looking at everything.
var ErrUnsupported = fault.New(fault.Unsupported, "this store cannot answer the query").WithCode("query_unsupported")

// Unsupported returns ErrUnsupported with what is not supported.
func Unsupported(format string, args ...any) error {
	return fault.Wrap(fault.Unsupported, ErrUnsupported, "this store cannot answer the query: %s", fmt.Sprintf(format, args...)).WithCode("query_unsupported")
}

// Type is the type of a field's values.
type Type uint8

// The types, with how their values are ordered.
const (
	TypeText  Type = iota // by bytes
	TypeInt               // 64 bits, signed
	TypeFloat             // finite; -0 equals 0
	TypeBool              // false before true
	TypeTime              // whole microseconds since 1970, UTC
)

// String returns the type's name.
func (t Type) String() string {
	return [...]string{"text", "int", "float", "bool", "time"}[min(t, TypeTime)]
}

// Value is a value of a field, comparable with == and by Compare.
type Value struct {
	Type  Type
	Text  string  // of TypeText
	Int   int64   // of TypeInt and TypeTime (microseconds); 0 or 1 of TypeBool
	Float float64 // of TypeFloat
}

// TextValue returns a text as a Value.
func TextValue(s string) Value { return Value{Type: TypeText, Text: s} }

// IntValue returns an integer as a Value.
func IntValue(n int64) Value { return Value{Type: TypeInt, Int: n} }

// FloatValue returns a float as a Value. What is not a number becomes 0: it
// would have no place in an order.
func FloatValue(f float64) Value {
	if f != f || f == 0 {
		f = 0
	}
	return Value{Type: TypeFloat, Float: f}
}

// BoolValue returns a boolean as a Value.
func BoolValue(b bool) Value {
	if b {
		return Value{Type: TypeBool, Int: 1}
	}
	return Value{Type: TypeBool}
}

// TimeValue returns a time as a Value, cut to microseconds.
func TimeValue(t time.Time) Value { return Value{Type: TypeTime, Int: t.UnixMicro()} }

// Time returns the time of a TypeTime.
func (v Value) Time() time.Time { return time.UnixMicro(v.Int).UTC() }

// Compare orders values of one type, as cmp.Compare does.
func (v Value) Compare(w Value) int {
	switch v.Type {
	case TypeText:
		return cmp.Compare(v.Text, w.Text)
	case TypeFloat:
		return cmp.Compare(v.Float, w.Float)
	default:
		return cmp.Compare(v.Int, w.Int)
	}
}

// String returns the value as a query would show it.
func (v Value) String() string {
	switch v.Type {
	case TypeText:
		return strconv.Quote(v.Text)
	case TypeFloat:
		return strconv.FormatFloat(v.Float, 'g', -1, 64)
	case TypeBool:
		return strconv.FormatBool(v.Int != 0)
	case TypeTime:
		return v.Time().Format(time.RFC3339Nano)
	default:
		return strconv.FormatInt(v.Int, 10)
	}
}
