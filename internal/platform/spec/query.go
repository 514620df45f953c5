package spec

// Deleted says whether a query sees what is deleted but can be restored.
type Deleted uint8

// The choices. The zero value leaves deleted things out.
const (
	WithoutDeleted Deleted = iota
	WithDeleted
	OnlyDeleted
)

// Sees says whether something that is deleted, or not, is seen.
func (d Deleted) Sees(deleted bool) bool {
	switch d {
	case WithDeleted:
		return true
	case OnlyDeleted:
		return deleted
	default:
		return !deleted
	}
}

// Query asks for one page of the Ts that satisfy a rule.
type Query[T any] struct {
	Where   Spec[T]
	Order   Order[T]
	Limit   int    // of the page; 0 means DefaultLimit, more than MaxLimit means that
	After   string // the Next of the page before; empty: the first page
	Deleted Deleted
}

// How many items a page has.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// PageLimit returns the limit in effect.
func (q Query[T]) PageLimit() int {
	if q.Limit <= 0 {
		return DefaultLimit
	}
	return min(q.Limit, MaxLimit)
}

// Page is a part of the answer to a query. Next asks for what follows it; it is
// empty on the last page. Pages are stable: what is added meanwhile neither
// repeats nor hides what was there.
type Page[T any] struct {
	Items []T
	Next  string
}

// Function is what a Measure computes over a group.
type Function uint8

// The functions; all but Count take a field. Sum and Avg take integers and
// floats; the sum of integers is an integer.
const (
	Count Function = iota
	Sum
	Avg
	Min
	Max
)

// Measure is one figure of a summary.
type Measure struct {
	Function Function
	Field    string // empty for Count
}

// Summary asks for figures of the Ts that satisfy a rule, for each value of a
// field, or for all of them together.
type Summary[T any] struct {
	Where    Spec[T]
	By       string // a field's name; empty: one group of all
	Measures []Measure
	Deleted  Deleted
	// Most is of how many the summary may be at most, whichever they are, where that is
	// enough to know; 0: of all. A store may summarise more.
	Most int
}

// Group is a part of the answer to a Summary: the value that the group has in
// common, the zero Value where there is one group of all, and the measures in
// the order in which they were asked for. Groups come in the order of their
// values. Where nothing satisfies the rule there are no groups.
type Group struct {
	By     Value
	Values []Value
}
