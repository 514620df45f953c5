package aggregate

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

type accountID string

type account struct {
	Root[accountID]
	Balance int
}

type paid struct{ Amount int }

func (paid) EventType() string { return "account.paid" }

type renamed struct{ Name string }

func (renamed) EventType() string { return "account.renamed" }
func (renamed) EventVersion() int { return 2 }

// Property 12: events accumulate in order; taking them returns all and leaves none.
func TestProperty12EventCollection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a account
		var want []Event
		for _, n := range rapid.SliceOf(rapid.Int()).Draw(t, "amounts") {
			a.Record(paid{n})
			want = append(want, paid{n})
			if !slices.Equal(a.Events(), want) {
				t.Fatalf("have %v, want %v", a.Events(), want)
			}
			if rapid.IntRange(0, 4).Draw(t, "take") == 0 {
				if got := a.TakeEvents(); !slices.Equal(got, want) || len(a.Events()) != 0 {
					t.Fatalf("took %v, want %v; left %v", got, want, a.Events())
				}
				want = nil
			}
		}
	})
}

// Property 11: a value taken from an aggregate is not changed by what happens
// to the aggregate later.
func TestProperty11CopiesAreApart(t *testing.T) {
	a := account{Balance: 1}
	a.Record(paid{1})
	b := a
	a.Balance = 2
	a.TakeEvents()
	if b.Balance != 1 || len(b.Events()) != 1 {
		t.Errorf("the copy changed: %+v", b)
	}
}

func TestVersions(t *testing.T) {
	if VersionOf(paid{}) != 1 || VersionOf(renamed{}) != 2 {
		t.Error("wrong versions")
	}
	var a account
	a.Version = 3
	if err := a.Expect(3); err != nil {
		t.Error(err)
	}
	if err := a.Expect(2); !fault.Is(err, fault.PreconditionFailed) || fault.CodeOf(err) != "version_mismatch" {
		t.Errorf("got %v", err)
	}
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := uuid.Must(uuid.NewV7())
		n := rapid.IntRange(0, 1000).Draw(t, "n")
		u := Derive(op, n)
		if u != Derive(op, n) || u == Derive(op, n+1) {
			t.Fatal("derived ids are not what they should be")
		}
		if u.Version() != 7 || u.Variant() != uuid.RFC4122 || !slices.Equal(u[:6], op[:6]) {
			t.Fatalf("%s is no version 7 UUID of the time of %s", u, op)
		}
		id := NewID[accountID]("acc", u)
		if back, err := ParseID[accountID]("acc", string(id)); err != nil || back != id {
			t.Fatalf("%s: %v", id, err)
		}
	})
	for _, bad := range []string{"", "acc_", "acc", "acct_" + strings.Repeat("0", 32), "acc_" + strings.Repeat("0", 31), "acc_" + strings.Repeat("G", 32), "acc_" + strings.Repeat("0", 33)} {
		if _, err := ParseID[accountID]("acc", bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
