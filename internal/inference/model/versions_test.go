package model

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		policy VersionPolicy
		have   []int64
		want   []int64
	}{
		{VersionPolicy{}, nil, nil},
		{VersionPolicy{}, []int64{3, 1, 10}, []int64{10}},
		{VersionPolicy{Latest: 2}, []int64{3, 1, 10}, []int64{3, 10}},
		{VersionPolicy{Latest: 9}, []int64{3, 1}, []int64{1, 3}},
		{VersionPolicy{All: true}, []int64{2, 1, 2}, []int64{1, 2}},
		{VersionPolicy{Specific: []int64{5, 1}}, []int64{3, 1, 10}, []int64{1}},
	} {
		if got := c.policy.Choose(c.have); !slices.Equal(got, c.want) {
			t.Errorf("%+v of %v: %v, want %v", c.policy, c.have, got, c.want)
		}
	}
}

func TestChooseProperties(t *testing.T) {
	number := rapid.Int64Range(1, 12)
	rapid.Check(t, func(t *rapid.T) {
		have := rapid.SliceOf(number).Draw(t, "have")
		p := VersionPolicy{
			All:      rapid.Bool().Draw(t, "all"),
			Latest:   rapid.IntRange(0, 5).Draw(t, "latest"),
			Specific: rapid.SliceOf(number).Draw(t, "specific"),
		}
		before := slices.Clone(have)
		got := p.Choose(have)
		if !slices.Equal(have, before) {
			t.Fatal("the argument changed")
		}
		distinct := map[int64]bool{}
		for _, v := range have {
			distinct[v] = true
		}
		for i, v := range got {
			if !distinct[v] || i > 0 && got[i-1] >= v {
				t.Fatalf("%v of %v: not available, or not ascending", got, have)
			}
		}
		switch {
		case len(p.Specific) > 0:
			for v := range distinct {
				if slices.Contains(p.Specific, v) != slices.Contains(got, v) {
					t.Fatalf("specific %v of %v: %v", p.Specific, have, got)
				}
			}
		case p.All:
			if len(got) != len(distinct) {
				t.Fatalf("all of %v: %v", have, got)
			}
		default:
			if len(got) != min(max(1, p.Latest), len(distinct)) {
				t.Fatalf("latest %d of %v: %v", p.Latest, have, got)
			}
			for v := range distinct { // none left out is newer than one chosen
				if len(got) > 0 && v > got[0] && !slices.Contains(got, v) {
					t.Fatalf("latest %d of %v: %v leaves out %d", p.Latest, have, got, v)
				}
			}
		}
	})
}
