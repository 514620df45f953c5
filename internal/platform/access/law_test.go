package access

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var everyPermission = []Permission{readKeys, writeKeys, readJobs, runJobs, readTenants}

func genSet() *rapid.Generator[Set] {
	return rapid.Custom(func(rt *rapid.T) Set {
		return SetOf(rapid.SliceOf(rapid.SampledFrom(everyPermission)).Draw(rt, "permissions")...)
	})
}

func TestSetsFollowTheLawsOfSets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := genSet().Draw(rt, "a"), genSet().Draw(rt, "b"), genSet().Draw(rt, "c")
		for law, holds := range map[string]bool{
			"union commutes":               a.Union(b).Equal(b.Union(a)),
			"union associates":             a.Union(b).Union(c).Equal(a.Union(b.Union(c))),
			"union is idempotent":          a.Union(a).Equal(a),
			"nothing adds nothing":         a.Union(Set{}).Equal(a),
			"intersection commutes":        a.Intersect(b).Equal(b.Intersect(a)),
			"intersection associates":      a.Intersect(b).Intersect(c).Equal(a.Intersect(b.Intersect(c))),
			"intersection is idempotent":   a.Intersect(a).Equal(a),
			"nothing meets nothing":        a.Intersect(Set{}).Equal(Set{}),
			"distribution":                 a.Intersect(b.Union(c)).Equal(a.Intersect(b).Union(a.Intersect(c))),
			"absorption":                   a.Union(a.Intersect(b)).Equal(a),
			"intersection lies within":     a.Intersect(b).Within(a) && a.Intersect(b).Within(b),
			"union contains":               a.Within(a.Union(b)) && b.Within(a.Union(b)),
			"a difference and a meeting":   a.Without(b).Union(a.Intersect(b)).Equal(a) && a.Without(b).Intersect(b).Len() == 0,
			"a list makes its set":         SetOf(a.List()...).Equal(a),
			"within both ways is equality": (a.Within(b) && b.Within(a)) == a.Equal(b),
		} {
			if !holds {
				rt.Errorf("%s: broken by %v, %v, %v", law, a.List(), b.List(), c.List())
			}
		}
	})
}

// Whatever its scopes say, a credential holds nothing beyond its roles; within
// them a further scope takes nothing away, and the first scope only narrows.
func TestScopesNeverWiden(t *testing.T) {
	roles := testRoles(t)
	names := append(roles.Names(), "unknown")
	scope := rapid.SampledFrom(append(slices.Clone(everyPermission), "*:*", "jobs:*", "openid", ""))
	rapid.Check(t, func(rt *rapid.T) {
		held := rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(rt, "roles")
		scopes := rapid.SliceOfN(scope, 0, 5).Draw(rt, "scopes")
		more := append(slices.Clone(scopes), scope.Draw(rt, "one more"))

		granted := roles.Granted(held)
		before, after := roles.Effective(held, scopes), roles.Effective(held, more)
		if !before.Within(granted) || !after.Within(granted) {
			rt.Fatalf("roles %v with scopes %v hold %v, beyond %v", held, more, after.List(), granted.List())
		}
		if len(scopes) > 0 && !before.Within(after) {
			rt.Fatalf("scopes %v gave %v, more of them %v", scopes, before.List(), after.List())
		}
		if want := granted.Intersect(SetOf(more...)); !after.Equal(want) {
			rt.Fatalf("effective is %v, expected %v", after.List(), want.List())
		}
	})
}

// More roles never take a right away.
func TestRolesOnlyAdd(t *testing.T) {
	roles := testRoles(t)
	name := rapid.SampledFrom(append(roles.Names(), "unknown"))
	rapid.Check(t, func(rt *rapid.T) {
		held := rapid.SliceOfN(name, 0, 4).Draw(rt, "roles")
		more := append(slices.Clone(held), name.Draw(rt, "one more"))
		if !roles.Granted(held).Within(roles.Granted(more)) {
			rt.Fatalf("%v hold more than %v", held, more)
		}
	})
}
