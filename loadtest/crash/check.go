package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
)

// history is what all clients know together.
type history struct {
	things     []*thing
	operations []operation
}

// checker compares what clients were told with what the stores hold.
type checker struct {
	history
	*evidence
	problems []string

	leafByID    map[string]audit.Entry
	leavesOf    map[repo.Key]int    // that took effect
	okByRequest map[string][]string // ids of entries of commands that are done
	eventsOf    map[repo.Key][]int64
	requests    map[string]bool // of events
}

// check returns everything that is wrong.
func check(h history, e *evidence) []string {
	c := &checker{history: h, evidence: e, problems: slices.Clone(e.broken),
		leafByID: map[string]audit.Entry{}, leavesOf: map[repo.Key]int{}, okByRequest: map[string][]string{},
		eventsOf: map[repo.Key][]int64{}, requests: map[string]bool{}}
	c.index()
	c.nothingLost()
	c.changesAreCounted()
	c.keysHaveOneEffect()
	c.eventsAreWhole()
	c.unitsAreWhole()
	c.auditIsWhole()
	return c.problems
}

const mostProblems = 200

func (c *checker) wrong(format string, args ...any) {
	if len(c.problems) < mostProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// keyOf returns where a thing is in the store: tenants belong to the platform.
func keyOf(kind, id string) repo.Key {
	if kind == tenants {
		return repo.Key{Kind: kind, ID: id}
	}
	return repo.Key{Tenant: "default", Kind: kind, ID: id}
}

func (c *checker) index() {
	for _, l := range c.leaves {
		e := l.Entry
		c.leafByID[e.ID] = e
		if e.Outcome != audit.OK {
			continue
		}
		c.okByRequest[e.Request] = append(c.okByRequest[e.Request], e.ID)
		// The restoration of what was not deleted changes nothing.
		if _, verb := cut(e.Action); verb != "restore" || e.Change != "" {
			c.leavesOf[keyOf(e.Kind, e.Resource)]++
		}
	}
	for _, m := range c.events {
		c.eventsOf[m.Key] = append(c.eventsOf[m.Key], m.Sequence)
		c.requests[m.Request] = true
	}
}

func cut(action string) (kind, verb string) {
	for i := len(action) - 1; i >= 0; i-- {
		if action[i] == '.' {
			return action[:i], action[i+1:]
		}
	}
	return action, ""
}

// nothingLost: everything is exactly as the clients were told, and there is
// nothing else.
func (c *checker) nothingLost() {
	known := map[repo.Key]bool{keyOf(tenants, "default"): true}
	for _, t := range c.things {
		key := keyOf(t.Kind, t.ID)
		known[key] = true
		r, ok := c.records[key]
		switch {
		case !ok:
			c.wrong("lost: %s %s was acknowledged with version %d, and is not there", t.Kind, t.ID, t.Version)
		case t.Shared:
		case r.Version != t.Version || r.Deleted != t.Deleted || r.Fields != t.Fields:
			c.wrong("lost: %s %s was acknowledged as version %d, deleted %t, %+v; the store has version %d, deleted %t, %+v",
				t.Kind, t.ID, t.Version, t.Deleted, t.Fields, r.Version, r.Deleted, r.Fields)
		}
	}
	for key := range c.records {
		if !known[key] {
			c.wrong("unwanted: nobody has made %s %s", key.Kind, key.ID)
		}
	}
}

// changesAreCounted: what all clients change at once has as many versions as
// they made changes, and none of them was told the same version.
func (c *checker) changesAreCounted() {
	for _, t := range c.things {
		if !t.Shared {
			continue
		}
		changes, told := int64(0), map[int64]string{}
		for _, o := range c.operations {
			if o.Kind != t.Kind || o.ID != t.ID {
				continue
			}
			changes++
			if other, twice := told[o.Version]; twice && o.Version > 0 {
				c.wrong("twice: the changes %s and %s of %s were both told that they made version %d", other, o.Key, t.ID, o.Version)
			}
			told[o.Version] = o.Key
		}
		if r := c.records[keyOf(t.Kind, t.ID)]; r.Version != changes {
			c.wrong("lost or twice: %s has version %d after %d acknowledged operations", t.ID, r.Version, changes)
		}
	}
}

// keysHaveOneEffect: each Idempotency-Key has a reservation with its answer, the
// reservation's operation was done once, and one audit entry says so.
func (c *checker) keysHaveOneEffect() {
	for _, o := range c.operations {
		if o.Key == "" {
			continue
		}
		r, ok := c.reservations[reservationID(o.route(), o.Key)]
		if !ok {
			c.wrong("forgotten: the Idempotency-Key %s was answered %s, and is not known", o.Key, o.Answer)
			continue
		}
		// The last room may go to a change, and none be left for its answer: who asks
		// again then is told what was done by the mark in the inbox, which is below.
		if !r.Answered && !c.wasFull {
			c.wrong("unanswered: the Idempotency-Key %s was answered %s, and its answer was not kept", o.Key, o.Answer)
		}
		if n := c.marks[r.Operation.String()]; c.marks != nil && n != 1 {
			c.wrong("not once: the inbox has %d marks of the operation of the Idempotency-Key %s", n, o.Key)
		}
		entries := 0
		for _, id := range derived(r.Operation, 8, aggregate.Derive) {
			if e, ok := c.leafByID[id]; ok && e.Outcome == audit.OK {
				entries++
			}
		}
		if entries != 1 {
			c.wrong("not once: the audit log has %d entries of the operation of the Idempotency-Key %s (%s of %s %s, answered %s)", entries, o.Key, o.Action, o.Kind, o.ID, o.Answer)
		}
	}
}

// reservationID is where the store keeps what it knows of a key of nobody in
// particular.
func reservationID(route, key string) string {
	h := sha256.New()
	for _, part := range []string{"anonymous", route, key} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// eventsAreWhole: nothing waits in the outbox that was not published before, as
// a relay does again that takes over from one that stops; and the stream has each
// event of each aggregate once, in order and without a gap, up to the record's
// last one.
func (c *checker) eventsAreWhole() {
	seen := map[string]bool{}
	for _, m := range c.events {
		if seen[m.ID] {
			c.wrong("twice: the event %s of %s %s is in the stream twice", m.ID, m.Kind, m.Key.ID)
		}
		seen[m.ID] = true
	}
	for _, id := range c.pending {
		if _, logged := c.leafByID[id]; !logged && !seen[id] {
			c.wrong("undelivered: the message %s is still in the outbox", id)
		}
	}
	for key, sequences := range c.eventsOf {
		for i, n := range sequences {
			if n != int64(i)+1 {
				c.wrong("disorder: the events of %s %s are %s in the stream", key.Kind, key.ID, shorten(sequences, i))
				break
			}
		}
		if _, ok := c.records[key]; !ok {
			c.wrong("half: there are events of %s %s, and no record", key.Kind, key.ID)
		}
	}
	for key, r := range c.records {
		if n := len(c.eventsOf[key]); int64(n) != r.Sequence {
			c.wrong("half: %s %s has recorded %d events, the stream has %d", key.Kind, key.ID, r.Sequence, n)
		}
	}
}

func shorten(sequences []int64, at int) string {
	return fmt.Sprintf("%v from place %d", sequences[max(0, at-2):min(len(sequences), at+6)], max(0, at-2)+1)
}

// unitsAreWhole: a version has its audit entry and the reverse; an event has the
// entry of the same request and the reverse.
func (c *checker) unitsAreWhole() {
	for key, r := range c.records {
		want := int(r.Version)
		if key == keyOf(tenants, "default") {
			want = 0 // the first start makes it, for nobody
		}
		if n := c.leavesOf[key]; n != want {
			c.wrong("half: %s %s has version %d, and %d audit entries of commands that took effect", key.Kind, key.ID, r.Version, n)
		}
	}
	for key := range c.leavesOf {
		if _, ok := c.records[key]; !ok && paths[key.Kind] != "" {
			c.wrong("half: the audit log says that %s %s was changed, and there is no record", key.Kind, key.ID)
		}
	}
	for _, m := range c.events {
		if n := len(c.okByRequest[m.Request]); m.Actor != "system" && n != 1 {
			c.wrong("half: the event %s of %s %s came with %d audit entries of its request %s", m.ID, m.Kind, m.Key.ID, n, m.Request)
		}
	}
	for _, l := range c.leaves {
		if e := l.Entry; e.Outcome == audit.OK && e.Change != "" && !c.requests[e.Request] {
			c.wrong("half: the audit entry %s (%s %s) tells of events, and the stream has none of its request", e.ID, e.Action, e.Resource)
		}
	}
}

// auditIsWhole: the log verifies, nothing waits for it, and the read model is
// the log.
func (c *checker) auditIsWhole() {
	for _, p := range c.report.Problems {
		c.wrong("audit: %s: %s: %s", p.Code, p.File, p.Message)
	}
	for _, id := range c.waiting {
		if _, logged := c.leafByID[id]; !logged {
			c.wrong("undelivered: the audit entry %s is still in the queue", id)
		}
	}
	for _, l := range c.leaves {
		if i, ok := c.readModel[l.Entry.ID]; !ok || i != l.Index {
			c.wrong("audit: the entry %d, %s, is at %d in the read model (there: %t)", l.Index, l.Entry.ID, i, ok)
		}
	}
	if len(c.readModel) != len(c.leaves) {
		c.wrong("audit: the read model has %d entries, the log %d", len(c.readModel), len(c.leaves))
	}
}
