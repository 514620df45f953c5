package experiment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// request has its values by source and name.
type request map[Key]string

func (r request) Value(from Source, name string) string { return r[Key{from, name}] }

// user is a request with nothing but a unit; it costs an assignment nothing.
type user struct{ id string }

func (u *user) Value(from Source, _ string) string {
	if from == Header {
		return u.id
	}
	return ""
}

var userHeader = Key{Header, "x-user"}

func plan(t testing.TB, salt string, arms ...Arm) *Plan {
	t.Helper()
	a, err := Allocate(arms...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(Config{Salt: salt, Allocation: a, Unit: []Key{userHeader}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRulesComeFirst(t *testing.T) {
	a, _ := Allocate(Arm{"champion", Total}, Arm{"canary", 0})
	p, err := Compile(Config{Salt: "s", Allocation: a, Unit: []Key{userHeader, {Attribute, "session"}}, Rules: []Rule{
		{When: []Condition{{Key: Key{From: Tenant}, In: []string{"bank", "acme"}}, {Key: userHeader, In: []string{"", "root"}, Not: true}}, Arm: "canary"},
		{When: []Condition{{Key: Key{Attribute, "country"}, In: []string{"de"}}}},
		{When: []Condition{{Key: Key{Header, "x-arm"}, In: []string{"canary"}}}, Arm: "canary"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r    request
		want Assignment
	}{
		"by the hash":              {request{userHeader: "u1"}, Assignment{0, "champion", ByUnit}},
		"the second unit":          {request{{Attribute, "session"}: "s1"}, Assignment{0, "champion", ByUnit}},
		"no unit":                  {request{{From: RequestID}: "r1"}, Assignment{0, "champion", ByRequest}},
		"nothing at all":           {request{}, Assignment{0, "champion", ByRequest}},
		"both conditions":          {request{{From: Tenant}: "acme", userHeader: "u1"}, Assignment{1, "canary", ByRule}},
		"one condition of two":     {request{{From: Tenant}: "acme", userHeader: "root"}, Assignment{0, "champion", ByUnit}},
		"missing is empty":         {request{{From: Tenant}: "acme"}, Assignment{0, "champion", ByRequest}},
		"kept out":                 {request{{Attribute, "country"}: "de", {Header, "x-arm"}: "canary"}, Assignment{-1, "", Outside}},
		"forced by a header":       {request{{Header, "x-arm"}: "canary"}, Assignment{1, "canary", ByRule}},
		"an attribute's namesake":  {request{{Attribute, "x-arm"}: "canary"}, Assignment{0, "champion", ByRequest}},
		"a header with other text": {request{{Header, "x-arm"}: "canary2"}, Assignment{0, "champion", ByRequest}},
	} {
		if got := p.Assign(c.r); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// Who is with an arm that does not shrink stays with it, whatever the others
// do; and of all units no more than the least share changes arms.
func TestUnitsAreSticky(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, _ := Allocate(drawArms(t)...)
		after, err := before.Reweight(drawArms(t)...)
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Salt: rapid.StringN(1, 20, MaxText).Draw(t, "salt"), Allocation: before, Unit: []Key{userHeader}}
		p, _ := Compile(c)
		c.Allocation = after
		q, _ := Compile(c)
		grown := weights(after.Arms())
		for _, id := range rapid.SliceOfN(rapid.StringN(1, 20, -1), 1, 50).Draw(t, "units") {
			a, b := p.Assign(&user{id}), q.Assign(&user{id})
			if a != p.Assign(&user{id}) {
				t.Fatalf("%q was assigned twice, differently", id)
			}
			if was := before.Arms()[a.Arm]; a.Name != b.Name && grown[was.Name] >= was.Weight {
				t.Fatalf("%q moved from %q, which did not shrink, to %q", id, a.Name, b.Name)
			}
		}
	})
}

// A million units over three arms are within 0.2 percentage points of the weights.
func TestSharesAreTrue(t *testing.T) {
	const units = 1_000_000
	p := plan(t, "exp_1", Arm{"a", 6000}, Arm{"b", 3000}, Arm{"c", 1000})
	var n [3]int
	for i := range units {
		n[p.arm("user-"+strconv.Itoa(i))]++
	}
	for i, arm := range p.allocation.arms {
		share, want := float64(n[i])/units, float64(arm.Weight)/Total
		t.Logf("%s: %.4f %%, want %.2f %%", arm.Name, 100*share, 100*want)
		if math.Abs(share-want) > 0.002 {
			t.Errorf("the arm %s has %.3f of the units, want %.3f", arm.Name, share, want)
		}
	}
}

// critical is the value that a chi-square statistic of so many degrees of
// freedom stays below with probability 1-1e-6 (Wilson and Hilferty, 1931).
func critical(freedom float64) float64 {
	const z = 4.7534
	return freedom * math.Pow(1-2/(9*freedom)+z*math.Sqrt(2/(9*freedom)), 3)
}

// unitsOf are ids as clients make them: counted, random, long, alike.
func unitsOf(kind string, n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	units := make([]string, n)
	for i := range units {
		switch kind {
		case "counted":
			units[i] = strconv.Itoa(i)
		case "uuid":
			units[i] = fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
		case "mail":
			units[i] = fmt.Sprintf("customer.%d@mail.example.com", i)
		case "binary":
			units[i] = string([]byte{byte(i >> 16), byte(i >> 8), byte(i)})
		}
	}
	return units
}

var unitKinds = []string{"counted", "uuid", "mail", "binary"}

// Slots are hit evenly, whatever the ids and the salt look like.
func TestSlotsAreUniform(t *testing.T) {
	const cells, n = 500, 50_000
	for _, kind := range unitKinds {
		units := unitsOf(kind, n)
		for _, salt := range []string{"1", "2", "exp_0000", "a very long salt, as somebody may choose it for an experiment"} {
			var hits [cells]float64
			for _, u := range units {
				hits[slotOf(seedOf(salt), u)*cells/Total]++
			}
			chi := 0.0
			for _, h := range hits {
				chi += (h - n/cells) * (h - n/cells) / (n / cells)
			}
			if limit := critical(cells - 1); chi > limit {
				t.Errorf("%s with salt %q: chi-square %.0f, want below %.0f", kind, salt, chi, limit)
			}
		}
	}
}

// An arm in one experiment says nothing of the arm in another, however alike
// their salts are.
func TestExperimentsAreIndependent(t *testing.T) {
	const cells, n = 20, 20_000
	for _, kind := range unitKinds {
		units := unitsOf(kind, n)
		for _, salts := range [][2]string{{"1", "2"}, {"exp_1", "exp_2"}, {"a", "aa"}, {"x", "x\x00"}, {"", "\x00"}} {
			var joint [cells][cells]float64
			s, u := seedOf(salts[0]), seedOf(salts[1])
			for _, id := range units {
				joint[slotOf(s, id)*cells/Total][slotOf(u, id)*cells/Total]++
			}
			const want = float64(n) / (cells * cells)
			chi := 0.0
			for _, row := range joint {
				for _, h := range row {
					chi += (h - want) * (h - want) / want
				}
			}
			if limit := critical(cells*cells - 1); chi > limit {
				t.Errorf("%s with salts %q: chi-square %.0f, want below %.0f", kind, salts, chi, limit)
			}
		}
	}
}

// Slots are part of what is stored: another hash would move every unit.
func TestSlotsNeverChange(t *testing.T) {
	for unit, want := range map[string]int{"": 5176, "user-1": 9896, "user-2": 3397} {
		if got := slotOf(seedOf("exp_1"), unit); got != want {
			t.Errorf("%q has slot %d, want %d", unit, got, want)
		}
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	a, _ := Allocate(Arm{"a", Total})
	bad := Config{
		Unit: []Key{{From: "cookie", Name: "x"}, {From: Header}, {From: Tenant, Name: "x"}},
		Rules: []Rule{
			{Arm: "b"},
			{When: []Condition{{Key: userHeader}}, Arm: "b"},
		},
	}
	for i, c := range []Config{bad, {Salt: "s"}, {Allocation: a}, {Salt: "s", Allocation: &Allocation{}}, {Salt: "s", Allocation: a, Rules: []Rule{{Arm: "b"}}}} {
		if _, err := Compile(c); !fault.Is(err, fault.Unprocessable) || len(fault.Of(err).Details) == 0 {
			t.Errorf("%d: %v", i, err)
		}
	}
	var pointers []string
	for _, d := range fault.Of(bad.Validate()).Details {
		pointers = append(pointers, d.Pointer)
	}
	want := []string{"/salt", "/allocation", "/unit/0/from", "/unit/1/name", "/unit/2/name", "/rules/0/when", "/rules/1/when/0/in"}
	if fmt.Sprint(pointers) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", pointers, want)
	}
}

// plans are those of so many experiments with ten arms each.
func plans(t testing.TB, experiments int) []*Plan {
	var arms []Arm
	for i := range 10 {
		arms = append(arms, Arm{fmt.Sprint("arm-", i), Total / 10})
	}
	out := make([]*Plan, experiments)
	for i := range out {
		out[i] = plan(t, fmt.Sprint("exp-", i), arms...)
	}
	return out
}

func TestAssignDoesNotAllocate(t *testing.T) {
	p, u := plans(t, 1)[0], &user{"0195b6a0-user-4711"}
	if n := testing.AllocsPerRun(100, func() { p.Assign(u) }); n != 0 {
		t.Errorf("Assign allocates %.0f times", n)
	}
}

// A thousand experiments with ten arms each, in turn, so that nothing is in the
// processor's caches; and one of them alone. Package route has the whole way.
func BenchmarkAssign(b *testing.B) {
	all := plans(b, 1024)
	var ids []string
	for i := range 1024 {
		ids = append(ids, fmt.Sprintf("0195b6a0-user-%08d", i))
	}
	for name, mask := range map[string]int{"experiments=1024": 1023, "experiments=1": 0} {
		b.Run(name, func(b *testing.B) {
			u, i := &user{}, 0
			b.ReportAllocs()
			for b.Loop() {
				u.id = ids[i%1024]
				all[i*7&mask].Assign(u)
				i++
			}
		})
	}
}
