package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func results(t *rapid.T, name string) Result[int] {
	if rapid.Bool().Draw(t, name+"Ok") {
		return Ok(rapid.Int().Draw(t, name))
	}
	kind := fault.Kind(rapid.IntRange(0, int(fault.Gone)).Draw(t, name+"Kind"))
	return Fail[int](fault.New(kind, "%s", rapid.StringN(0, 20, -1).Draw(t, name+"Text")).WithCode("some_code"))
}

func equal[T comparable](a, b Result[T]) bool {
	return a.value == b.value && errors.Is(a.err, b.err) && (a.err == nil) == (b.err == nil)
}

// Property 2: the laws of a functor and of a monad.
func TestProperty2MonadLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := results(t, "r")
		boom := errors.New("boom")
		k := rapid.IntRange(1, 9).Draw(t, "k")
		double := func(n int) int { return n * 2 }
		add := func(n int) int { return n + k }
		half := func(n int) (int, error) {
			if n%2 != 0 {
				return 0, boom
			}
			return n / 2, nil
		}
		third := func(n int) (int, error) {
			if n%3 != 0 {
				return 0, boom
			}
			return n / 3, nil
		}
		if !equal(Map(r, func(n int) int { return n }), r) {
			t.Error("Map(id) is not id")
		}
		if !equal(Map(Map(r, double), add), Map(r, func(n int) int { return add(double(n)) })) {
			t.Error("Map does not compose")
		}
		if !equal(Then(r, func(n int) (int, error) { return n, nil }), r) {
			t.Error("Then(Ok) is not id")
		}
		n := rapid.Int().Draw(t, "n")
		if !equal(Then(Ok(n), half), Of(half(n))) {
			t.Error("Then(Ok(n), f) is not f(n)")
		}
		if !equal(Then(Then(r, half), third), Then(r, func(n int) (int, error) { return Then(Of(half(n)), third).Get() })) {
			t.Error("Then is not associative")
		}
	})
}

func TestAlternatives(t *testing.T) {
	boom := errors.New("boom")
	if got := Fail[int](boom).Or(7); got != 7 {
		t.Errorf("Or: %d", got)
	}
	if got := Ok(3).Or(7); got != 3 {
		t.Errorf("Or: %d", got)
	}
	recovered := Fail[int](boom).OrElse(func(err error) (int, error) {
		if !errors.Is(err, boom) {
			t.Errorf("handed %v", err)
		}
		return 5, nil
	})
	if v, err := recovered.Get(); v != 5 || err != nil {
		t.Errorf("OrElse: %d, %v", v, err)
	}
	if r := Ok(1).OrElse(func(error) (int, error) { t.Error("called without an error"); return 0, nil }); r.Or(0) != 1 {
		t.Error("OrElse changed a value")
	}
	for r, want := range map[*Result[int]]string{{value: 2}: "2", {err: boom}: "boom"} {
		if got := Match(*r, func(n int) string { return fmt.Sprint(n) }, error.Error); got != want {
			t.Errorf("Match: %q, want %q", got, want)
		}
	}
	if v, err := Of(9, boom).Get(); v != 0 || !errors.Is(err, boom) {
		t.Errorf("a value beside an error was kept: %d, %v", v, err)
	}
}

func TestTryContainsPanics(t *testing.T) {
	r := Try(func() (int, error) { panic("secret") })
	if !fault.Is(r.Err(), fault.Internal) || fault.CodeOf(r.Err()) != "panic" || fault.Of(r.Err()).Message != "internal error" {
		t.Errorf("got %v", r.Err())
	}
	if r := Try(func() (int, error) { return 4, nil }); r.Or(0) != 4 {
		t.Errorf("got %v", r)
	}
}

func TestCollect(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	values, err := Collect(slices.Values([]Result[int]{Ok(1), Fail[int](a), Ok(2), Fail[int](b)}))
	if !slices.Equal(values, []int{1, 2}) || !errors.Is(err, a) || !errors.Is(err, b) {
		t.Errorf("got %v, %v", values, err)
	}
	if _, err := Collect(slices.Values([]Result[int]{Ok(1)})); err != nil {
		t.Error(err)
	}
}

// Property 2, on the wire: a Result survives JSON; an error keeps what the
// caller may know and loses its cause.
func TestProperty2JSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := results(t, "r")
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Result[int]
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if back.value != r.value || (back.err == nil) != (r.err == nil) {
			t.Fatalf("%s came back as %v", data, back)
		}
		if r.err != nil {
			want, got := fault.Of(r.err), fault.Of(back.err)
			if got.Kind != want.Kind || got.Code != want.Code || got.Message != want.Text() {
				t.Fatalf("%s came back as %#v", data, got)
			}
		}
	})
	for _, bad := range []string{`{}`, `{"value":1,"error":{"kind":"internal"}}`, `{"error":{"kind":"nonsense"}}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(Result[int])); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	data, _ := json.Marshal(Fail[int](errors.New("password=hunter2")))
	if string(data) != `{"error":{"kind":"internal","code":"internal","message":"internal error"}}` {
		t.Errorf("a cause leaked: %s", data)
	}
}
