// Package result is the pair (T, error) as a value, for where the pair has to
// travel: through channels, futures, batch slots and rows of an export.
//
// Functions return (T, error) as ever; a Result is made where such a pair is
// stored and taken apart where it is used. The zero Result holds the zero T
// and no error.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"sluice/internal/platform/fault"
)

// Result holds a value or the error that kept it from being made.
type Result[T any] struct {
	value T
	err   error
}

// Of makes a Result of what a function returned: Of(f()). The value is dropped
// where there is an error.
func Of[T any](value T, err error) Result[T] {
	if err != nil {
		return Fail[T](err)
	}
	return Result[T]{value: value}
}

// Ok is a Result without an error.
func Ok[T any](value T) Result[T] { return Result[T]{value: value} }

// Fail is a Result without a value. It panics on a nil error: a defect.
func Fail[T any](err error) Result[T] {
	if err == nil {
		panic("result: Fail without an error")
	}
	return Result[T]{err: err}
}

// Try calls f and returns what it returned; a panic becomes an Internal fault.
func Try[T any](f func() (T, error)) (r Result[T]) {
	defer func() {
		if p := recover(); p != nil {
			r = Fail[T](fault.Wrap(fault.Internal, fmt.Errorf("panic: %v", p), "internal error").WithCode("panic"))
		}
	}()
	return Of(f())
}

// Get takes the pair apart.
func (r Result[T]) Get() (T, error) { return r.value, r.err }

// Err returns the error, nil where there is a value.
func (r Result[T]) Err() error { return r.err }

// Or returns the value, or fallback where there is an error.
func (r Result[T]) Or(fallback T) T {
	if r.err != nil {
		return fallback
	}
	return r.value
}

// OrElse returns r, or what otherwise makes of its error.
func (r Result[T]) OrElse(otherwise func(error) (T, error)) Result[T] {
	if r.err == nil {
		return r
	}
	return Of(otherwise(r.err))
}

// Map applies f to the value; an error stays as it is.
func Map[T, U any](r Result[T], f func(T) U) Result[U] {
	if r.err != nil {
		return Fail[U](r.err)
	}
	return Ok(f(r.value))
}

// Then goes on with f where there is a value; an error stays as it is.
func Then[T, U any](r Result[T], f func(T) (U, error)) Result[U] {
	if r.err != nil {
		return Fail[U](r.err)
	}
	return Of(f(r.value))
}

// Match returns what the one of the two functions makes of r that fits it.
func Match[T, U any](r Result[T], ok func(T) U, failed func(error) U) U {
	if r.err != nil {
		return failed(r.err)
	}
	return ok(r.value)
}

// Collect returns all values in order. Where any failed it returns the values
// of the others, and all errors joined.
func Collect[T any](results iter.Seq[Result[T]]) ([]T, error) {
	var (
		values []T
		errs   []error
	)
	for r := range results {
		if r.err != nil {
			errs = append(errs, r.err)
			continue
		}
		values = append(values, r.value)
	}
	return values, errors.Join(errs...)
}

// wire is a Result as JSON: exactly one of the two is there.
type wire struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error *wireError      `json:"error,omitempty"`
}

type wireError struct {
	Kind    string `json:"kind"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// MarshalJSON writes {"value": …} or {"error": {kind, code, message}}: what the
// caller may know of an error, never its cause.
func (r Result[T]) MarshalJSON() ([]byte, error) {
	if r.err == nil {
		value, err := json.Marshal(r.value)
		if err != nil {
			return nil, err
		}
		return json.Marshal(wire{Value: value})
	}
	e := fault.Of(r.err)
	return json.Marshal(wire{Error: &wireError{e.Kind.String(), fault.CodeOf(e), e.Text()}})
}

// UnmarshalJSON reads what MarshalJSON wrote; an error comes back as a fault of
// the same kind, code and message.
func (r *Result[T]) UnmarshalJSON(data []byte) error {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	switch {
	case w.Error != nil && w.Value == nil:
		kind, ok := fault.KindOf(w.Error.Kind)
		if !ok {
			return fault.New(fault.Invalid, "result: unknown kind of error %q", w.Error.Kind)
		}
		*r = Fail[T](fault.New(kind, "%s", w.Error.Message).WithCode(w.Error.Code))
	case w.Value != nil && w.Error == nil:
		var value T
		if err := json.Unmarshal(w.Value, &value); err != nil {
			return err
		}
		*r = Ok(value)
	default:
		return fault.New(fault.Invalid, "result: expected exactly one of value and error")
	}
	return nil
}
