package trail

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sourcegraph/conc/iter"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// A checkpoint costs several writes that reach the disk and a signature, however
// many entries it covers. Nobody waits for an entry but its queue: so entries are
// gathered for a moment, for longer where many come, and the time goes to those for
// whom somebody waits.
const (
	gatherFor  = 25 * time.Millisecond
	gatherMany = 64 // entries in that time, and
	gatherOn   = 225 * time.Millisecond
)

// takeTime bounds each half of the taking of what was gathered: the log, which goes on
// with a checkpoint that it has begun for as long as audit.Config.Timeout, and the read
// model.
const takeTime = 8 * time.Second

// lookups is how many entries are looked up at once.
const lookups = 16

// indexed is how many entries share a commit of the read model at most: a store that
// commits in groups lets nobody into one before it has written what others want of it.
const indexed = 64

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
		group := more([]*arrival{first}, arrivals, gatherFor)
		if len(group) >= gatherMany {
			group = more(group, arrivals, gatherOn)
		}
		t.take(ctx, group)
	}
}

// more adds to a group what arrives within a time, as long as there is room.
func more(group []*arrival, arrivals <-chan *arrival, within time.Duration) []*arrival {
	over := time.After(within)
	for len(group) < concurrency {
		select {
		case a, open := <-arrivals:
			if !open {
				return group
			}
			group = append(group, a)
		case <-over:
			return group
		}
	}
	return group
}

// settle tells an arrival what became of it, if it has not been told.
func (a *arrival) settle(err error) {
	select {
	case a.done <- err:
	default:
	}
}

// take puts a group into the log and the read model, and tells each its outcome.
func (t *Trail) take(ctx context.Context, group []*arrival) {
	defer func() {
		if p := recover(); p != nil {
			t.cfg.Slog.ErrorContext(ctx, "the audit log panicked", "panic", p, "stack", string(debug.Stack()))
			for _, a := range group {
				a.settle(fault.New(fault.Internal, "the audit log panicked").WithCode("handler_panic"))
			}
		}
	}()
	logging, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	fresh := t.fresh(logging, group)
	if len(fresh) == 0 {
		return
	}
	indexes, err := t.append(logging, fresh)
	switch {
	case err == nil:
		indexing, cancel := context.WithTimeout(ctx, takeTime)
		defer cancel()
		t.indexAll(indexing, fresh, indexes)
	case fault.Is(err, fault.Invalid) && len(fresh) > 1: // one of them: the others are not to suffer for it
		for i := range fresh {
			t.take(ctx, fresh[i:i+1])
		}
	default:
		for _, a := range fresh {
			a.settle(err)
		}
	}
}

// fresh returns those of a group that are to be logged. What is in the read model has
// its place, also where the log has forgotten it; what is in the group twice comes again.
func (t *Trail) fresh(ctx context.Context, group []*arrival) []*arrival {
	unknown := make([]bool, len(group))
	iter.Iterator[*arrival]{MaxGoroutines: lookups}.ForEachIdx(group, func(i int, a **arrival) {
		known, err := Entries.Exists(ctx, t.store.Read((*a).scope()), EntryID((*a).entry.ID))
		if unknown[i] = err == nil && !known; !unknown[i] {
			(*a).settle(err)
		}
	})
	var fresh []*arrival
	seen := map[string]bool{}
	for i, a := range group {
		switch {
		case !unknown[i]:
		case seen[a.entry.ID]:
			a.settle(fault.New(fault.Unavailable, "the entry %s is being logged already", a.entry.ID).WithCode("audit_repeated"))
		default:
			seen[a.entry.ID] = true
			fresh = append(fresh, a)
		}
	}
	return fresh
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

// indexAll puts what has its place into the read model: a tenant's in few commits,
// where the store can do that, and else many at a time.
func (t *Trail) indexAll(ctx context.Context, group []*arrival, indexes []int64) {
	if !t.store.Driver().Features().MultiAggregate {
		var all sync.WaitGroup
		for i, a := range group {
			all.Go(func() { a.settle(t.index(ctx, a.scope(), a.entry, indexes[i])) })
		}
		all.Wait()
		return
	}
	tenants := map[string][]int{}
	for i, a := range group {
		tenants[a.entry.Tenant] = append(tenants[a.entry.Tenant], i)
	}
	for tenant, all := range tenants {
		for members := range slices.Chunk(all, indexed) {
			entries := make([]*Entry, len(members))
			for j, i := range members {
				entries[j] = entryOf(group[i].entry, indexes[i])
			}
			for j, r := range Entries.AddMany(ctx, t.store, repo.Scope{Tenant: tenant, Actor: "system"}, entries) {
				group[members[j]].settle(there(r.Err()))
			}
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
