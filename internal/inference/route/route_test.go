package route

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func digest(n int64) string { return "d" + strconv.FormatInt(n, 10) }

func table(labels map[string]int64, numbers ...int64) *Table[int64] {
	m := Model[int64]{Labels: labels}
	for _, n := range numbers {
		m.Versions = append(m.Versions, Numbered[int64]{n, strconv.FormatInt(n, 10), digest(n), n})
	}
	return new(Table[int64]).With("m", m)
}

func TestPick(t *testing.T) {
	tab := table(map[string]int64{"stable": 2, "next": 9}, 10, 2)
	for _, c := range []struct {
		name, version string
		want          int64
		kind          fault.Kind
	}{
		{"m", "", 10, 0},
		{"m", "2", 2, 0},
		{"m", "10", 10, 0},
		{"m", "stable", 2, 0},
		{"m", "next", 0, fault.Unavailable},
		{"m", "3", 0, fault.NotFound},
		{"m", "02", 0, fault.NotFound},
		{"other", "", 0, fault.NotFound},
	} {
		got, err := tab.Pick(c.name, c.version, nil)
		if (err != nil) != (c.kind != 0) || (err != nil && !fault.Is(err, c.kind)) || got.Value != c.want {
			t.Errorf("Pick(%q, %q) = %d, %v", c.name, c.version, got.Value, err)
		}
	}
}

// Changing a copy never changes the table that requests are reading.
func TestTablesAreImmutable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := map[string]int64{"a": 1}
		before := table(labels, 1, 2)
		labels["a"] = 2
		after := before
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"m", "x", "y"}), 1, 5).Draw(t, "names") {
			if rapid.Bool().Draw(t, "drop") {
				after = after.Without(name)
			} else {
				after = after.With(name, Model[int64]{Versions: []Numbered[int64]{{7, "7", "d7", 7}}})
			}
		}
		for version, want := range map[string]int64{"": 2, "1": 1, "a": 1} {
			if got, err := before.Pick("m", version, nil); err != nil || got.Value != want {
				t.Fatalf("Pick(m, %q) = %d, %v after a copy was changed; want %d", version, got.Value, err, want)
			}
		}
	})
}

func TestPickDoesNotAllocate(t *testing.T) {
	tab := table(map[string]int64{"stable": 2}, 1, 2)
	for _, version := range []string{"", "1", "stable"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = tab.Pick("m", version, nil) }); n != 0 {
			t.Errorf("Pick(m, %q) allocates %.0f times", version, n)
		}
	}
}
