package rollout

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

// pointed is what the alias of the model test points to from a time on.
type pointed struct {
	at time.Time
	Pointing
	exists bool
}

// Whatever people do to an alias, a protected one changes only by somebody else
// than who asked for it, and its history says at any time what it was.
func TestAliasLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(rt)
		was := []pointed{{}}
		var proposed *Proposal
		people := []string{"key_a", "key_b", "key_c"}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			by := rapid.SampledFrom(people).Draw(rt, "by")
			now := was[len(was)-1]
			expect := Expectation{Any: now.exists, Absent: !now.exists}
			happened := func(p Pointing, exists bool) {
				was = append(was, pointed{b.clock.now, p, exists})
				proposed = nil
			}
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				n := rapid.Int64Range(1, 6).Draw(rt, "version")
				protected := rapid.Bool().Draw(rt, "protected")
				to := Pointing{n, digest(n), protected}
				a, err := cqrs.Send(as(by), b.bus, SetAlias{Model: "m", Alias: "champion", Version: strconv.FormatInt(n, 10), Protected: &protected, Expect: expect})
				switch {
				case n == 6:
					if fault.CodeOf(err) != "version_missing" || !fault.Is(err, fault.Unprocessable) {
						rt.Fatalf("of a version that is not there: %v", err)
					}
				case err != nil:
					rt.Fatal(err)
				case now.exists && now.Protected && (now.Pointing != to || proposed != nil):
					proposed = &Proposal{Pointing: to, By: by}
				case now.Pointing != to || !now.exists:
					happened(to, true)
				}
				if err == nil && a.State.Exists && a.State.Pointing != was[len(was)-1].Pointing {
					rt.Fatalf("it points to %+v, want %+v", a.State.Pointing, was[len(was)-1])
				}
			case 2:
				_, err := cqrs.Send(as(by), b.bus, RemoveAlias{Model: "m", Alias: "champion", Expect: Expectation{Any: true}})
				switch {
				case !now.exists:
					if fault.CodeOf(err) != "alias_not_found" {
						rt.Fatalf("of one that is not there: %v", err)
					}
				case err != nil:
					rt.Fatal(err)
				case now.Protected:
					proposed = &Proposal{Remove: true, By: by}
				default:
					happened(Pointing{}, false)
				}
			case 3:
				approve := rapid.Bool().Draw(rt, "approve")
				_, err := cqrs.Send(as(by), b.bus, DecideAlias{Model: "m", Alias: "champion", Approve: approve, Expect: Expectation{Any: true}})
				want := ""
				switch {
				case !now.exists:
					want = "alias_not_found"
				case proposed == nil:
					want = "alias_not_proposed"
				case approve && by == proposed.By:
					want = "approval_by_requester"
				case approve && proposed.Remove:
					happened(Pointing{}, false)
				case approve:
					happened(proposed.Pointing, true)
				default:
					proposed = nil
				}
				if want == "" && err != nil || want != "" && fault.CodeOf(err) != want {
					rt.Fatalf("approve %t by %s of %+v: %v, want %q", approve, by, proposed, err, want)
				}
			}
		}
		b.compare(rt, was)
	})
}

// compare asks for the history as a whole, in pages, and at every moment.
func (b *bed) compare(t *rapid.T, was []pointed) {
	var all []AliasChange
	for after := int64(0); ; {
		page, err := cqrs.Ask(as("key_a"), b.bus, AliasHistory{Model: "m", Alias: "champion", After: after, Limit: 2})
		if len(was) == 1 && fault.CodeOf(err) == "alias_not_found" {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, page...); len(page) < 2 {
			break
		}
		after = page[1].Sequence
	}
	same := func(c AliasChange, p pointed) bool { return c.Pointing == p.Pointing && c.Removed == !p.exists }
	if !slices.EqualFunc(all, was[1:], same) {
		t.Fatalf("the history is\n%+v, want\n%+v", all, was[1:])
	}
	for i, c := range all {
		for _, at := range []time.Time{c.At.Add(-time.Microsecond), c.At, c.At.Add(time.Microsecond)} {
			now, err := cqrs.Ask(as("key_a"), b.bus, AliasHistory{Model: "m", Alias: "champion", AsOf: at})
			want := was[i+1]
			if at.Before(c.At) {
				want = was[i]
			}
			none := want.at.IsZero()
			if err != nil || none != (len(now) == 0) || !none && !same(now[0], want) {
				t.Fatalf("at %s it was %+v, %v; want %+v", at, now, err, want)
			}
		}
	}
}

// Changes are made for the version that somebody has seen.
func TestAliasPreconditions(t *testing.T) {
	b := newBed(t)
	send := func(version string, e Expectation) error {
		_, err := cqrs.Send(as("key_a"), b.bus, SetAlias{Model: "m", Alias: "champion", Version: version, Expect: e})
		return err
	}
	for _, c := range []struct {
		version string
		expect  Expectation
		code    string
	}{
		{"1", Expectation{Any: true}, "version_mismatch"},
		{"1", Expectation{Version: 1}, "version_mismatch"},
		{"1", Expectation{Absent: true}, ""},
		{"2", Expectation{Absent: true}, "version_mismatch"},
		{"2", Expectation{Version: 7}, "version_mismatch"},
		{"2", Expectation{Version: 1}, ""},
		{"2", Expectation{Version: 2}, ""}, // as it is: no new version
		{"3", Expectation{Version: 2}, ""},
	} {
		err := send(c.version, c.expect)
		if c.code == "" && err != nil || c.code != "" && (fault.CodeOf(err) != c.code || !fault.Is(err, fault.PreconditionFailed)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, name := range []string{"", "7", "a@b", "a:b", "über", string(make([]byte, 100))} {
		if _, err := cqrs.Send(as("key_a"), b.bus, SetAlias{Model: "m", Alias: name, Version: "1", Expect: Expectation{Absent: true}}); fault.CodeOf(err) != "alias_name_invalid" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := cqrs.Send(as("key_a"), b.bus, SetAlias{Model: "other", Alias: "champion", Version: "1", Expect: Expectation{Absent: true}}); fault.CodeOf(err) != "model_not_found" {
		t.Errorf("of no model: %v", err)
	}
}

// choosy are graphs that one version does not suit.
type choosy int64

func (c choosy) Fits(_ context.Context, _, alias string, version int64) error {
	if alias == "champion" && version == int64(c) {
		return fault.New(fault.Conflict, "a graph needs another").WithCode("alias_breaks_graph")
	}
	return nil
}

// Nothing leads an alias to a version that a graph could not work with: no change, no
// approval of an earlier one, and no release.
func TestGraphsKeepAliases(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	set := func(alias, version string, protected bool) (*LoadedAlias, error) {
		return s.SetAlias(as("key_a"), SetAlias{Model: "m", Alias: alias, Version: version, Protected: &protected, Expect: Expectation{Any: alias == "champion", Absent: alias != "champion"}})
	}
	b.set(t, "key_a", "champion", "1", true)
	proposed, err := set("champion", "2", true)
	if err != nil {
		t.Fatal(err)
	}
	s.Graphs = choosy(2)
	coded(t, "another alias", second(set("other", "2", false)), "")
	_, err = s.DecideAlias(as("key_b"), DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Version: proposed.Root.Version}})
	coded(t, "the approval", err, "alias_breaks_graph")
	rejected, err := s.DecideAlias(as("key_b"), DecideAlias{Model: "m", Alias: "champion", Expect: Expectation{Version: proposed.Root.Version}})
	if coded(t, "the rejection", err, ""); rejected.State.Version != 1 || rejected.State.Proposed != nil {
		t.Errorf("%+v", rejected.State)
	}
	coded(t, "the change", second(set("champion", "2", true)), "alias_breaks_graph")
	coded(t, "a release", second(s.StartRelease(as("key_a"), "rel_1", StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)})), "alias_breaks_graph")
	coded(t, "a release of another", second(s.StartRelease(as("key_a"), "rel_1", StartRelease{Model: "m", Alias: "champion", Candidate: "3", Steps: steps(100)})), "")
	coded(t, "what is not there", second(s.DecideAlias(as("key_b"), DecideAlias{Model: "m", Alias: "none", Approve: true, Expect: Expectation{Any: true}})), "alias_not_found")
}

// crossing are graphs of which one is registered just while an alias is pointed: the first
// look, before the commit, does not see it.
type crossing struct{ looks int }

func (c *crossing) Fits(_ context.Context, _, _ string, version int64) error {
	if version != 2 {
		return nil
	}
	if c.looks++; c.looks == 1 {
		return nil
	}
	return fault.New(fault.Conflict, "a graph needs another").WithCode("alias_breaks_graph")
}

// A graph that is registered between the look for graphs and the commit of a change keeps the
// alias all the same: the change, the approval or the release is taken back, and said so.
func TestGraphsThatCrossKeepAliases(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	same := func(what string, version int64, protected bool) {
		t.Helper()
		a, err := cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "champion"})
		if err != nil || a.State.Version != version || a.State.Protected != protected || a.State.Proposed != nil {
			t.Errorf("%s: %+v, %v", what, a.State, err)
		}
	}
	once := context.WithValue(as("key_a"), repeated{}, uuid.New()) // of one request: each of its commands is done once
	s.Graphs = &crossing{}
	coded(t, "a new alias", second(s.SetAlias(once, SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Absent: true}})), "alias_breaks_graph")
	coded(t, "what was new", second(cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "champion"})), "alias_not_found")

	b.set(t, "key_a", "champion", "1", false)
	s.Graphs = &crossing{}
	coded(t, "a change", second(s.SetAlias(as("key_a"), SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}})), "alias_breaks_graph")
	same("behind a change", 1, false)

	b.set(t, "key_a", "champion", "1", true)
	proposed := b.set(t, "key_a", "champion", "2", true)
	s.Graphs = &crossing{}
	coded(t, "an approval", second(s.DecideAlias(as("key_b"), DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Version: proposed.Root.Version}})), "alias_breaks_graph")
	same("behind an approval", 1, true)

	s.Graphs = &crossing{}
	coded(t, "a release", second(s.StartRelease(as("key_a"), "rel_1", StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)})), "alias_breaks_graph")
	if r, err := cqrs.Ask(as("key_a"), b.bus, FindRelease{ID: "rel_1"}); err != nil || !r.State.Status.Final() {
		t.Errorf("the release: %v, %v", r.State.Status, err)
	}
}
