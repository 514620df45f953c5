package experiment

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// drawArms draws arms whose weights add up to Total; names may repeat between
// draws, so that arms stay, come and go.
func drawArms(t *rapid.T) []Arm {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}), 1, 6, rapid.ID).Draw(t, "names")
	cuts := rapid.SliceOfN(rapid.IntRange(0, Total), len(names)-1, len(names)-1).Draw(t, "cuts")
	slices.Sort(cuts)
	cuts = append(cuts, Total)
	var arms []Arm
	from := 0
	for i, name := range names {
		arms = append(arms, Arm{name, cuts[i] - from})
		from = cuts[i]
	}
	return arms
}

func weights(arms []Arm) map[string]int {
	w := map[string]int{}
	for _, arm := range arms {
		w[arm.Name] = arm.Weight
	}
	return w
}

// Every arm has exactly the slots of its weight, and exactly those slots have
// moved that had to: the total variation distance of the weightings.
func TestReweightMovesTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := Allocate(drawArms(t)...)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			b, err := a.Reweight(drawArms(t)...)
			if err != nil {
				t.Fatal(err)
			}
			has := make([]int, len(b.Arms()))
			for _, arm := range b.slots {
				has[arm]++
			}
			for i, arm := range b.Arms() {
				if has[i] != arm.Weight {
					t.Fatalf("the arm %q has %d slots, want %d", arm.Name, has[i], arm.Weight)
				}
			}
			after, must := weights(b.Arms()), 0
			for _, arm := range a.Arms() {
				must += max(0, arm.Weight-after[arm.Name])
			}
			if moved := a.Moved(b); moved != must {
				t.Fatalf("%d slots moved from %v to %v, want %d", moved, a.Arms(), b.Arms(), must)
			}
			for slot := range Total {
				from, to := a.arms[a.slots[slot]], b.arms[b.slots[slot]]
				if from.Name != to.Name && from.Weight <= after[from.Name] {
					t.Fatalf("slot %d left %q, which does not shrink", slot, from.Name)
				}
			}
			a = b
		}
	})
}

func TestReweightingIsImmutable(t *testing.T) {
	a, _ := Allocate(Arm{"champion", 9900}, Arm{"canary", 100})
	before, _ := json.Marshal(a)
	if _, err := a.Reweight(Arm{"canary", Total}); err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(a); string(after) != string(before) {
		t.Errorf("the allocation changed from %s to %s", before, after)
	}
}

func TestAllocationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := Allocate(drawArms(t)...)
		a, _ = a.Reweight(drawArms(t)...)
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var b Allocation
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.arms, b.arms) || !slices.Equal(a.slots, b.slots) {
			t.Fatalf("%v came back as %v", a, b)
		}
	})
}

func TestBadArmsAreRefused(t *testing.T) {
	many := slices.Repeat([]Arm{{Weight: 1}}, MaxArms+1)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	for name, c := range map[string]struct {
		arms []Arm
		code string
	}{
		"none":     {nil, "experiment_arms"},
		"many":     {many, "experiment_arms"},
		"nameless": {[]Arm{{"", Total}}, "experiment_arms"},
		"twice":    {[]Arm{{"a", 5000}, {"a", 5000}}, "experiment_arms"},
		"under":    {[]Arm{{"a", 5000}, {"b", 4999}}, "experiment_weights"},
		"over":     {[]Arm{{"a", Total}, {"b", 1}}, "experiment_weights"},
		"negative": {[]Arm{{"a", Total + 1}, {"b", -1}}, "experiment_weights"},
	} {
		if _, err := Allocate(c.arms...); !fault.Is(err, fault.Unprocessable) || fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is read is an error, or an allocation that fits its weights.
func FuzzAllocation(f *testing.F) {
	a, _ := Allocate(Arm{"a", 9900}, Arm{"b", 100})
	good, _ := json.Marshal(a)
	for _, seed := range []string{
		string(good), `{}`, `null`, `{"arms":[{"name":"a","weight":10000}],"runs":[[0,9999]]}`,
		`{"arms":[{"name":"a","weight":10000}],"runs":[[0,9999],[1,1]]}`, `{"arms":[{"name":"a","weight":10000}],"runs":[[0,-1],[0,10001]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Allocation
		if json.Unmarshal(data, &a) != nil || a.slots == nil { // null leaves it as it is
			return
		}
		if len(a.slots) != Total {
			t.Fatalf("%d slots", len(a.slots))
		}
		if b, err := a.Reweight(a.Arms()...); err != nil || a.Moved(b) != 0 {
			t.Fatalf("the same weights moved slots: %v", err)
		}
	})
}
