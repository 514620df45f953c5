package trail

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// A checkpoint costs several writes that reach the disk and a signature, however
// many entries it covers. Nobody waits for an entry but its queue: so entries are
// gathered for a moment, and the time goes to those for whom somebody waits.
const gatherFor = 25 * time.Millisecond

// takeTime bounds the taking of what was gathered, also after the consumer was
// stopped: it is then over before the handlers' time is.
const takeTime = 8 * time.Second

// arrival is an entry on its way into the log.
type arrival struct {
	entry audit.Entry
	cause string     // the id of the message that brought it
	done  chan error // has room for the outcome
}

func (a *arrival) scope() repo.Scope {
	return repo.Scope{Tenant: a.entry.Tenant, Actor: "system", Causation: a.cause}
}

// gather takes what arrives, in groups, until there is no more.
func (t *Trail) gather(ctx context.Context, arrivals <-chan *arrival) {
	for first := range arrivals {
		group := []*arrival{first}
		over := time.After(gatherFor)
		for full := false; !full && len(group) < concurrency; {
			select {
			case a, open := <-arrivals:
				if full = !open; open {
					group = append(group, a)
				}
			case <-over:
				full = true
			}
		}
		t.take(ctx, group)
	}
}

// take puts a group into the log and the read model, and tells each its outcome.
func (t *Trail) take(ctx context.Context, group []*arrival) {
	ctx, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	fresh := group[:0:0]
	for _, a := range group {
		// What is in the read model has its place, also where the log has forgotten it.
		known, err := Entries.Exists(ctx, t.store.Read(a.scope()), EntryID(a.entry.ID))
		if err != nil || known {
			a.done <- err
			continue
		}
		fresh = append(fresh, a)
	}
	if len(fresh) == 0 {
		return
	}
	indexes, err := t.append(ctx, fresh)
	switch {
	case err == nil:
		t.indexAll(ctx, fresh, indexes)
	case fault.Is(err, fault.Invalid) && len(fresh) > 1: // one of them: the others are not to suffer for it
		for i := range fresh {
			t.take(ctx, fresh[i:i+1])
		}
	default:
		for _, a := range fresh {
			a.done <- err
		}
	}
}

func (t *Trail) append(ctx context.Context, group []*arrival) ([]int64, error) {
	log, err := t.current()
	if err != nil {
		return nil, err
	}
	entries := make([]audit.Entry, len(group))
	for i, a := range group {
		entries[i] = a.entry
	}
	return log.Append(ctx, entries)
}

// indexAll puts what has its place into the read model: a tenant's in one commit,
// where the store can do that, and else many at a time.
func (t *Trail) indexAll(ctx context.Context, group []*arrival, indexes []int64) {
	if !t.store.Driver().Features().MultiAggregate {
		var all sync.WaitGroup
		for i, a := range group {
			all.Go(func() { a.done <- t.index(ctx, a.scope(), a.entry, indexes[i]) })
		}
		all.Wait()
		return
	}
	tenants := map[string][]int{}
	for i, a := range group {
		tenants[a.entry.Tenant] = append(tenants[a.entry.Tenant], i)
	}
	for tenant, members := range tenants {
		entries := make([]*Entry, len(members))
		for j, i := range members {
			entries[j] = entryOf(group[i].entry, indexes[i])
		}
		for j, r := range Entries.AddMany(ctx, t.store, repo.Scope{Tenant: tenant, Actor: "system"}, entries) {
			group[members[j]].done <- there(r.Err())
		}
	}
}

// index puts an entry into the read model.
func (t *Trail) index(ctx context.Context, scope repo.Scope, entry audit.Entry, index int64) error {
	e := entryOf(entry, index)
	return there(t.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error { return Entries.Add(ctx, tx, e) }))
}

func entryOf(entry audit.Entry, index int64) *Entry {
	e := &Entry{Entry: entry, Index: index}
	e.Root.ID = EntryID(entry.ID)
	return e
}

// there returns no error for an entry that is in the read model already.
func there(err error) error {
	if errors.Is(err, repo.ErrExists) {
		return nil
	}
	return err
}
