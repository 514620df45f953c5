package main

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/overlay"
)

// whole is a history with evidence to which nothing is wrong: a flag that was
// made and changed, and a shared one that was made and changed twice.
func whole() (history, *evidence) {
	h, e := history{}, newEvidence()
	e.marks, e.report = map[string]int{}, &audit.Report{}
	e.records[keyOf(tenants, "default")] = stored{Version: 1, Sequence: 1}
	e.events = append(e.events, repo.Message{ID: "evt_0", Key: keyOf(tenants, "default"), Sequence: 1, Actor: "system"})
	add := func(t thing, actions ...string) {
		h.things = append(h.things, &t)
		e.records[keyOf(t.Kind, t.ID)] = stored{t.Version, t.Version, t.Deleted, t.Fields}
		for i, action := range actions {
			id := uuid.Must(uuid.NewV7())
			o := operation{Action: action, Kind: t.Kind, ID: t.ID, Key: t.ID + "-" + action + string(rune('a'+i)), Version: int64(i) + 1}
			h.operations = append(h.operations, o)
			e.reservations[reservationID(o.route(), o.Key)] = reservation{id, 1, true}
			e.marks[id.String()] = 1
			request := "request " + o.Key
			e.events = append(e.events, repo.Message{ID: "evt_" + hex.EncodeToString(id[:]), Key: keyOf(t.Kind, t.ID), Sequence: int64(i) + 1, Request: request, Actor: "anonymous"})
			second := aggregate.Derive(id, 1)
			entry := audit.Entry{ID: "evt_" + hex.EncodeToString(second[:]), Action: t.Kind + "." + action, Kind: t.Kind, Resource: t.ID, Outcome: audit.OK, Request: request, Change: "x"}
			e.readModel[entry.ID] = int64(len(e.leaves))
			e.leaves = append(e.leaves, audit.Logged{Index: int64(len(e.leaves)), Entry: entry})
		}
	}
	add(thing{Kind: flags, ID: "f", Version: 2, Fields: fields{Percent: 7}}, "create", "change")
	add(thing{Kind: flags, ID: "s", Version: 3, Shared: true}, "create", "change", "change")
	return h, e
}

func TestNothingIsWrong(t *testing.T) {
	if problems := check(whole()); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
}

// Whatever is missing, twice, half or out of order is found.
func TestWhatIsWrongIsFound(t *testing.T) {
	f := keyOf(flags, "f")
	for want, harm := range map[string]func(h *history, e *evidence){
		"lost: feature_flags f was acknowledged with":    func(_ *history, e *evidence) { delete(e.records, f) },
		"lost: feature_flags f was acknowledged as":      func(h *history, _ *evidence) { h.things[0].Version++ },
		"lost or twice: s has version 3 after 4":         func(h *history, _ *evidence) { h.operations = append(h.operations, operation{Kind: flags, ID: "s"}) },
		"twice: the changes":                             func(h *history, _ *evidence) { h.operations[4].Version = 2 },
		"unwanted: nobody has made":                      func(h *history, _ *evidence) { h.things = h.things[1:] },
		"forgotten: the Idempotency-Key":                 func(_ *history, e *evidence) { clear(e.reservations) },
		"not once: the inbox has 0 marks":                func(_ *history, e *evidence) { clear(e.marks) },
		"not once: the audit log has 0 entries":          func(_ *history, e *evidence) { e.leaves = e.leaves[1:] },
		"undelivered: the message":                       func(_ *history, e *evidence) { e.pending = []string{"evt_9"} },
		"undelivered: the audit entry":                   func(_ *history, e *evidence) { e.waiting = []string{"evt_x"} },
		"twice: the event":                               func(_ *history, e *evidence) { e.events = append(e.events, e.events[1]) },
		"disorder: the events of":                        func(_ *history, e *evidence) { e.events[1], e.events[2] = e.events[2], e.events[1] },
		"half: feature_flags f has recorded 2 events":    func(_ *history, e *evidence) { e.events = slices.Delete(e.events, 2, 3) },
		"half: feature_flags f has version 2, and 1":     func(_ *history, e *evidence) { e.leaves = e.leaves[1:] },
		"half: the event":                                func(_ *history, e *evidence) { e.leaves = e.leaves[1:] },
		"half: the audit entry":                          func(_ *history, e *evidence) { e.events = slices.Delete(e.events, 2, 3) },
		"half: the audit log says that feature_flags f":  func(_ *history, e *evidence) { delete(e.records, f) },
		"half: there are events of feature_flags f":      func(_ *history, e *evidence) { delete(e.records, f) },
		"audit: root":                                    func(_ *history, e *evidence) { e.report.Problems = []audit.Problem{{Code: "root"}} },
		"audit: the entry 0":                             func(_ *history, e *evidence) { delete(e.readModel, e.leaves[0].Entry.ID) },
		"audit: the read model has 6 entries, the log 5": func(_ *history, e *evidence) { e.readModel["evt_y"] = 9 },
		"unanswered: the Idempotency-Key": func(_ *history, e *evidence) {
			for id, r := range e.reservations {
				r.Answered = false
				e.reservations[id] = r
			}
		},
	} {
		h, e := whole()
		harm(&h, e)
		problems := check(h, e)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("%q is not found; what is: %q", want, problems)
		}
	}
}

// A run in which hardly anything succeeded shows nothing.
func TestRunsThatShowNothing(t *testing.T) {
	for want, tt := range map[string]*tally{
		"no request": {}, "succeeded": {attempts: 10, good: 4}, "": {attempts: 10, good: 5},
	} {
		if err := tt.valid(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d of %d: %v", tt.good, tt.attempts, err)
		}
	}
}

// Every defect of the self-test, and what the programs are hurt by, can still be
// built in.
func TestMutantsFit(t *testing.T) {
	for _, m := range append(mutants, jobMutants...) {
		o, err := overlay.New("../..")
		if err == nil {
			err = m.build(o)
		}
		if err == nil {
			_, err = hurtful(o)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func TestProxyCutsAndHeals(t *testing.T) {
	server, err := newBroker(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	p, err := newProxy(server.address)
	if err != nil {
		t.Fatal(err)
	}
	reachable := func() bool {
		e := newEvidence()
		through := &broker{address: p.address}
		err := through.read(t.Context(), e)
		return err != nil && strings.Contains(err.Error(), "stream EVENTS") // it is reached, and has none
	}
	if !reachable() {
		t.Error("not reachable at first")
	}
	if err := p.cut(); err != nil {
		t.Error(err)
	}
	if reachable() {
		t.Error("reachable although it was cut off")
	}
	if err := p.heal(); err != nil {
		t.Fatal(err)
	}
	if !reachable() {
		t.Error("not reachable after it has healed")
	}
	if err := p.cut(); err != nil {
		t.Error(err)
	}
}
