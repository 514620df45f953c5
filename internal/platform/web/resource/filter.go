package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// operators are the names of operators in filters.
var operators = map[string]spec.Op{"eq": spec.Eq, "lt": spec.Lt, "le": spec.Le, "gt": spec.Gt, "ge": spec.Ge, "in": spec.In, "prefix": spec.Prefix}

// parseFilters reads conditions of the form field:operator:value. All have to
// hold; what is wrong with any of them is told at once.
func parseFilters[A any](columns []spec.Column[A], texts []string) (spec.Spec[A], error) {
	var (
		rules []spec.Spec[A]
		wrong []fault.Detail
	)
	for i, text := range texts {
		rule, err := parseFilter(columns, text)
		if err != nil {
			wrong = append(wrong, fault.Detail{Pointer: "query.filter[" + strconv.Itoa(i) + "]", Code: "invalid_filter", Message: err.Error()})
		}
		rules = append(rules, rule)
	}
	if len(wrong) > 0 {
		return spec.Spec[A]{}, fault.New(fault.Unprocessable, "%d of the filters cannot be used", len(wrong)).WithCode("invalid_filter").WithDetails(wrong...)
	}
	if len(rules) == 0 {
		return spec.Spec[A]{}, nil
	}
	if len(rules) == 1 {
		return rules[0], nil
	}
	return spec.And(rules...), nil
}

func parseFilter[A any](columns []spec.Column[A], text string) (spec.Spec[A], error) {
	name, rest, _ := strings.Cut(text, ":")
	word, value, ok := strings.Cut(rest, ":")
	op, known := operators[word]
	if !ok || !known {
		return spec.Spec[A]{}, fmt.Errorf("%q is not of the form field:operator:value with the operators eq, lt, le, gt, ge, in and prefix", fault.Clip(text, 80))
	}
	i := slices.IndexFunc(columns, func(c spec.Column[A]) bool { return c.Name() == name })
	if i < 0 {
		names := make([]string, len(columns))
		for i, c := range columns {
			names[i] = c.Name()
		}
		return spec.Spec[A]{}, fmt.Errorf("there is no field %q to filter by, expected one of %s", fault.Clip(name, 64), strings.Join(names, ", "))
	}
	column := columns[i]
	if op == spec.Prefix && column.Type() != spec.TypeText {
		return spec.Spec[A]{}, fmt.Errorf("%s holds no text, which only has prefixes", name)
	}
	parts := []string{value}
	if op == spec.In {
		parts = strings.Split(value, "|")
	}
	values := make([]spec.Value, len(parts))
	for i, part := range parts {
		var err error
		if values[i], err = parseValue(column.Type(), part); err != nil {
			return spec.Spec[A]{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return spec.Where(column, op, values...), nil
}

func parseValue(t spec.Type, text string) (spec.Value, error) {
	clipped := fault.Clip(text, 80)
	switch t {
	case spec.TypeInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return spec.Value{}, fmt.Errorf("%q is not a whole number", clipped)
		}
		return spec.IntValue(n), nil
	case spec.TypeFloat:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f-f != 0 { // infinite, or not a number
			return spec.Value{}, fmt.Errorf("%q is not a finite number", clipped)
		}
		return spec.FloatValue(f), nil
	case spec.TypeBool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return spec.Value{}, fmt.Errorf("%q is not true or false", clipped)
		}
		return spec.BoolValue(b), nil
	case spec.TypeTime:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return spec.Value{}, fmt.Errorf("%q is not a time such as 2026-01-31T12:00:00Z", clipped)
		}
		return spec.TimeValue(at), nil
	default:
		return spec.TextValue(text), nil
	}
}
