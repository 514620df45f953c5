package trail

import (
	"context"
	"testing"
	"time"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Of a group, what is wrong with one entry is no other's fault; what is in it twice, or
// in the log already, has one place.
func TestGroups(t *testing.T) {
	b := newBench(t)
	shared := &audit.Memory{}
	log, err := audit.Open(t.Context(), shared, b.key, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tr := New(b.store, b.queue, nil, b.key, Config{})
	tr.use(log, shared)
	arrive := func(id, tenant, action string) *arrival {
		return &arrival{entry: audit.Entry{ID: id, Time: time.Unix(0, 0), Tenant: tenant, Action: action, Outcome: audit.OK}, done: make(chan error, 1)}
	}
	group := []*arrival{arrive("evt_1", "t0", "a.b"), arrive("evt_2", "t1", "a.b"), arrive("evt_1", "t0", "a.b"), arrive("evt_3", "t0", ""), arrive("evt_4", "t0", "a.b")}
	tr.take(t.Context(), group)
	for i, want := range []string{"", "", "audit_repeated", fault.CodeOf(<-group[3].done), ""} {
		if i == 3 {
			if want == "" {
				t.Error("an entry without an action was logged")
			}
			continue
		}
		if err := <-group[i].done; fault.CodeOf(err) != want && (err != nil || want != "") {
			t.Errorf("%d: %v", i, err)
		}
	}
	again := arrive("evt_2", "t1", "a.b")
	tr.take(t.Context(), []*arrival{again})
	if err := <-again.done; err != nil || log.Size() != 3 {
		t.Errorf("%v, %d entries", err, log.Size())
	}
	for id, tenant := range map[EntryID]string{"evt_1": "t0", "evt_2": "t1", "evt_4": "t0"} {
		if _, err := Entries.Get(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late := arrive("evt_5", "t0", "a.b")
	tr.take(over, []*arrival{late})
	if err := <-late.done; err == nil {
		t.Error("it was said to be logged when the time was over")
	}
}
