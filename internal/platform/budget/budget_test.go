package budget

import (
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestBudgetIsShared(t *testing.T) {
	b := New(100, "http.max_held")
	first, second := b.Account(), b.Account()
	if err := first.Acquire(60); err != nil {
		t.Fatal(err)
	}
	err := second.Acquire(41)
	e := fault.Of(err)
	if err == nil || e.Kind != fault.Unavailable || e.Code != Code || e.RetryAfter != time.Second || !strings.Contains(e.Message, "http.max_held") {
		t.Fatalf("beyond the limit: %v", err)
	}
	if err := second.Acquire(40); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	first.Return(10)
	if err := second.Acquire(10); err != nil {
		t.Errorf("after a return: %v", err)
	}
	moved := second.Split(20)
	second.Release()
	if b.Held() != 70 || moved.Held() != 20 {
		t.Errorf("%d bytes held, %d of them moved", b.Held(), moved.Held())
	}
	moved.Release()
	first.Release()
	if b.Held() != 0 {
		t.Errorf("%d bytes left", b.Held())
	}
}

// A request beyond the limit is served where no other is there, however often
// it asks.
func TestBudgetServesWhoIsAlone(t *testing.T) {
	b := New(100, "k")
	alone, other := b.Account(), b.Account()
	for range 3 {
		if err := alone.Acquire(80); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Acquire(1); err == nil {
		t.Error("a second request was let in")
	}
	alone.Release()
	if err := other.Acquire(1); err != nil {
		t.Error(err)
	}
}

func TestZeroAccountCanBeReleased(*testing.T) {
	var a Account
	a.Release()
}

// Whatever is acquired, refused and returned, the budget knows the sum.
func TestBudgetAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New(rapid.Int64Range(1, 1000).Draw(t, "limit"), "k")
		accounts := make([]Account, 4)
		for i := range accounts {
			accounts[i] = b.Account()
		}
		for range 50 {
			a := &accounts[rapid.IntRange(0, 3).Draw(t, "account")]
			if rapid.Bool().Draw(t, "acquire") {
				before := a.Held()
				if n := rapid.Int64Range(0, 500).Draw(t, "n"); a.Acquire(n) != nil && a.Held() != before {
					t.Fatal("a refusal was counted")
				}
			} else {
				a.Return(rapid.Int64Range(0, a.Held()).Draw(t, "n"))
			}
			sum := int64(0)
			for i := range accounts {
				sum += accounts[i].Held()
			}
			if sum != b.Held() {
				t.Fatalf("%d held, %d counted", sum, b.Held())
			}
		}
	})
}

func TestBudgetIsConcurrent(t *testing.T) {
	b := New(1000, "k")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range int64(1000) {
				a := b.Account()
				if a.Acquire(n%300) == nil && a.Acquire(n%50) == nil {
					a.Return(n % 50)
				}
				a.Release()
			}
		})
	}
	all.Wait()
	if b.Held() != 0 {
		t.Errorf("%d bytes left", b.Held())
	}
}
