package usage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
)

// Folder adds entries from the queue to the totals. Entries that come while their total is
// being committed share the next commit.
type Folder struct {
	store *repo.Store

	mu      sync.Mutex
	waiting map[place][]*item // entries for the next commit of totals that are being committed
	commits sync.WaitGroup
}

// place is a tenant's total.
type place struct {
	tenant string
	total  ID
}

// item is an entry that waits to be added.
type item struct {
	name string // of the message
	at   time.Time
	Entry
	done chan error // takes one
}

// NewFolder returns the folder of a store.
func NewFolder(store *repo.Store) *Folder {
	return &Folder{store: store, waiting: map[place][]*item{}}
}

const (
	concurrency = 64
	batch       = 256
	commitTime  = 30 * time.Second
	// never is so high that only entries that cannot be read are given up.
	never = 1 << 20
)

// Run adds entries until ctx ends.
func (f *Folder) Run(ctx context.Context, q queue.Consuming) error {
	defer f.commits.Wait()
	return q.Consume(ctx, queue.Consumer{Name: "usage", Stream: streamName, Concurrency: concurrency, MaxAttempts: never}, f.handle)
}

func (f *Folder) handle(ctx context.Context, d queue.Delivery) error {
	m, err := relay.Decode(&d.Message)
	if err != nil {
		return err
	}
	i := &item{name: m.ID, at: m.Time, done: make(chan error, 1)}
	if err := json.Unmarshal(m.Data, &i.Entry); err != nil {
		return fault.Wrap(fault.Invalid, err, "a usage entry cannot be read").WithCode("message_malformed")
	}
	f.join(place{m.Tenant, idOf(i.at, i.What)}, i)
	select {
	case err := <-i.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join has an item added with the next commit to its total.
func (f *Folder) join(p place, i *item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	items, busy := f.waiting[p]
	f.waiting[p] = append(items, i)
	if !busy {
		f.commits.Go(func() { f.drain(p) })
	}
}

// drain commits what waits for a total, until nothing does.
func (f *Folder) drain(p place) {
	for {
		f.mu.Lock()
		items := f.waiting[p]
		if len(items) == 0 {
			delete(f.waiting, p)
			f.mu.Unlock()
			return
		}
		n := min(len(items), batch)
		f.waiting[p] = slices.Clone(items[n:])
		f.mu.Unlock()
		f.commit(p.tenant, items[:n])
	}
}

// commit adds items of one total: all at once or, where one of them was counted
// before, one by one.
func (f *Folder) commit(tenant string, items []*item) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTime)
	defer cancel()
	sum, names := items[0].Entry, []string{items[0].name}
	twice := false
	for _, i := range items[1:] {
		twice = twice || slices.Contains(names, i.name)
		names = append(names, i.name)
		sum.Add(i.Amount)
	}
	err := error(repo.ErrProcessed)
	if !twice {
		err = once(ctx, f.store, tenant, names, items[0].at, sum)
	}
	for n, i := range items {
		each := err
		if errors.Is(err, repo.ErrProcessed) && len(items) > 1 {
			each = once(ctx, f.store, tenant, names[n:n+1], i.at, i.Entry)
		}
		if errors.Is(each, repo.ErrProcessed) {
			each = nil // it was counted
		}
		i.done <- each
	}
}
