package idempotency

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// The repository does what the store in memory does, whatever happens.
func TestRepositoryIsLikeMemory(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		memory := NewMemory(clock)
		repository := NewRepository(repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: clock}))
		keys := rapid.SampledFrom([]Key{{"a", "p", "r", "1"}, {"a", "p", "r", "2"}, {"b", "p", "r", "1"}, {"a", "q", "r", "1"}})
		attempts := rapid.IntRange(1, 3)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := keys.Draw(t, "key")
			switch rapid.IntRange(0, 4).Draw(t, "action") {
			case 0, 1:
				c := Claim{FingerprintOf("POST", "/", []byte(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "body"))),
					rapid.StringMatching(`[a-z]{3}`).Draw(t, "operation"), 2 * time.Minute, 24 * time.Hour}
				r1, ok1, err1 := memory.Reserve(ctx, key, c)
				r2, ok2, err2 := repository.Reserve(ctx, key, c)
				if d := cmp.Diff(r1, r2); d != "" || ok1 != ok2 || err1 != nil || err2 != nil {
					t.Fatalf("reserved %t and %t, %v, %v: %s", ok1, ok2, err1, err2, d)
				}
			case 2:
				n, a := attempts.Draw(t, "attempt"), Answer{Status: 201, Header: http.Header{"A": {"b"}}, Body: []byte("text")}
				if err1, err2 := memory.Complete(ctx, key, n, a), repository.Complete(ctx, key, n, a); err1 != nil || err2 != nil {
					t.Fatal(err1, err2)
				}
			case 3:
				n, forget := attempts.Draw(t, "attempt"), rapid.Bool().Draw(t, "forget")
				if err1, err2 := memory.Release(ctx, key, n, forget), repository.Release(ctx, key, n, forget); err1 != nil || err2 != nil {
					t.Fatal(err1, err2)
				}
			default:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute, 24 * time.Hour}).Draw(t, "time"))
			}
		}
	})
}

// A process that is alone knows that whoever began an attempt before it is dead;
// its own attempts, and all of others where it is not alone, keep their lease.
func TestRepositoryAlone(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	shared := NewRepository(repo.New(memrepo.New(memrepo.Config{}), repo.Config{Now: func() time.Time { return now }}))
	key, claim := Key{"t", "p", "r", "k"}, Claim{FingerprintOf("POST", "/", nil), "op1", 2 * time.Minute, time.Hour}
	reserve := func(r *Repository, want bool, attempt int) {
		t.Helper()
		got, ok, err := r.Reserve(t.Context(), key, claim)
		if err != nil || ok != want || got.Attempt != attempt || got.OperationID != "op1" {
			t.Errorf("reserved: %t, %+v, %v; expected %t and attempt %d", ok, got, err, want, attempt)
		}
	}
	reserve(shared, true, 1)
	now = now.Add(time.Second)
	alone := shared.Alone(now)
	reserve(shared, false, 1)
	reserve(alone, true, 2)
	reserve(alone, false, 2)
}

// Many at once, over a store that commits one aggregate at a time: one is it.
func TestRepositoryReservesOnce(t *testing.T) {
	repository := NewRepository(repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{}))
	won := make(chan bool)
	for range 50 {
		go func() {
			_, ok, err := repository.Reserve(context.Background(), Key{"a", "p", "r", "1"}, Claim{Lease: time.Minute, Keep: time.Hour})
			if err != nil {
				t.Error(err)
			}
			won <- ok
		}()
	}
	n := 0
	for range 50 {
		if <-won {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d reserved it", n)
	}
}

// What is stored does not say what the client's key was.
func TestRepositoryHidesKeys(t *testing.T) {
	driver := memrepo.New(memrepo.Config{})
	repository := NewRepository(repo.New(driver, repo.Config{}))
	if _, _, err := repository.Reserve(t.Context(), Key{"a", "p", "POST /v1/x", "jane@example.com"}, Claim{Lease: time.Minute, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	found, err := driver.Find(t.Context(), Schema(), &repo.FindQuery{Tenant: "a", Limit: 10, Now: time.Now()})
	if err != nil || len(found) != 1 || strings.Contains(found[0].ID+string(found[0].Doc), "jane") {
		t.Errorf("%+v, %v", found, err)
	}
}
