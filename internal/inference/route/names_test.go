package route

import (
	"strconv"
	"testing"

	"sluice/internal/inference/experiment"
	"sluice/internal/platform/fault"
)

// units are requests that have nothing but a unit.
type unit string

func (u *unit) Value(from experiment.Source, name string) string {
	if from == experiment.Header && name == "Experiment-Unit" {
		return string(*u)
	}
	return ""
}

// split divides requests between versions by equal weights.
func split(t testing.TB, id string, numbers ...int64) *Split {
	t.Helper()
	s := &Split{ID: id}
	var arms []experiment.Arm
	for i, n := range numbers {
		weight := experiment.Total / len(numbers)
		if i == 0 {
			weight = experiment.Total - weight*(len(numbers)-1)
		}
		name := "arm-" + strconv.FormatInt(n, 10)
		arms = append(arms, experiment.Arm{Name: name, Weight: weight})
		s.Arms = append(s.Arms, Arm{Name: name, Digest: digest(n)})
	}
	a, err := experiment.Allocate(arms...)
	if err != nil {
		t.Fatal(err)
	}
	s.Plan, err = experiment.Compile(experiment.Config{Salt: id, Allocation: a, Unit: []experiment.Key{{From: experiment.Header, Name: "Experiment-Unit"}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An alias is asked for before a label, and serves requests without a version
// where it is the default one. What it stands for may not be live.
func TestAliases(t *testing.T) {
	tab := table(map[string]int64{"stable": 1}, 1, 2, 3).Named(map[string]Names{"m": {"": {Version: 2}, Default: {Version: 2}, "stable": {Version: 3}, "gone": {Version: 9}}})
	for version, want := range map[string]int64{"": 2, "champion": 2, "stable": 3, "1": 1, "3": 3} {
		if got, err := tab.Pick("m", version, nil); err != nil || got.Value != want || got.Split != nil {
			t.Errorf("%q: %+v, %v; want %d", version, got, err, want)
		}
	}
	if _, err := tab.Pick("m", "gone", nil); fault.CodeOf(err) != "model_not_ready" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("of an alias whose version is not live: %v", err)
	}
	if got, err := tab.Named(nil).Pick("m", "", nil); err != nil || got.Value != 3 {
		t.Errorf("without names: %+v, %v", got, err)
	}
	// Versions that come later are found by names that were there before.
	later := tab.With("m", Model[int64]{Versions: []Numbered[int64]{{9, "9", digest(9), 9}}})
	if got, err := later.Pick("m", "gone", nil); err != nil || got.Value != 9 {
		t.Errorf("of an alias whose version came: %+v, %v", got, err)
	}
}

// A request has the arm that its unit has, as long as the arm's version is live;
// one that nobody asks for is in no experiment.
func TestSplit(t *testing.T) {
	s := split(t, "exp_1", 1, 2)
	names := map[string]Names{"m": {"": {Version: 1, Split: s}}}
	tab, without := table(nil, 1, 2).Named(names), table(nil, 1).Named(names)
	served := map[int64]int{}
	for i := range 1000 {
		u := unit(strconv.Itoa(i))
		first, err := tab.Pick("m", "", &u)
		again, _ := tab.Pick("m", "", &u)
		if err != nil || first != again || first.Split != s || first.Reason != experiment.ByUnit || digest(first.Value) != s.Arms[first.Arm].Digest {
			t.Fatalf("%+v, then %+v, %v", first, again, err)
		}
		served[first.Value]++
		got, err := without.Pick("m", "", &u)
		if err != nil || got.Value != 1 || (got.Split == nil) != (first.Value == 2) {
			t.Fatalf("of %+v where version 2 is not live: %+v, %v", first, got, err)
		}
	}
	if served[1] < 400 || served[2] < 400 {
		t.Errorf("served: %v", served)
	}
	if got, err := tab.Pick("m", "", nil); err != nil || got.Value != 1 || got.Split != nil {
		t.Errorf("of nobody: %+v, %v", got, err)
	}
}

// large is a table of 1,000 models with 10 arms each.
func large(t testing.TB) (*Table[int64], []string) {
	tab, names, models := new(Table[int64]), map[string]Names{}, []string{}
	var versions []Numbered[int64]
	for n := int64(1); n <= 10; n++ {
		versions = append(versions, Numbered[int64]{n, strconv.FormatInt(n, 10), digest(n), n})
	}
	all := map[string]*Model[int64]{}
	for i := range 1000 {
		name := "model-" + strconv.Itoa(i)
		models = append(models, name)
		all[name] = &Model[int64]{Versions: versions}
		s := split(t, "exp_"+name, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		names[name] = Names{"": {Version: 1, Split: s}, Default: {Version: 1, Split: s}}
	}
	tab.models = all
	return tab.Named(names), models
}

func TestSplitDoesNotAllocate(t *testing.T) {
	tab, models := large(t)
	u := unit("user-1")
	if n := testing.AllocsPerRun(100, func() { _, _ = tab.Pick(models[500], Default, &u) }); n != 0 {
		t.Errorf("it allocates %.0f times", n)
	}
}

// BenchmarkPick routes requests to 1,000 models with 10 arms each.
func BenchmarkPick(b *testing.B) {
	tab, models := large(b)
	units := make([]unit, 4096)
	for i := range units {
		units[i] = unit("user-" + strconv.Itoa(i))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := tab.Pick(models[i*7%1000], "", &units[i%len(units)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
