package deliver

import (
	"context"
	"sync"

	"sluice/internal/platform/webhook"
)

// item is a delivery that may have something to do.
type item struct {
	tenant   string
	endpoint webhook.EndpointID
	id       webhook.DeliveryID
}

// limits bound what is done at the same time, and what waits in memory.
type limits struct {
	perTenant, perEndpoint int // attempts at once
	backlog                int // items that wait for an endpoint
}

// lanes hold what waits, in a lane for each endpoint. Tenants take turns, and so
// do the endpoints of a tenant; one that has as much under way as it may is passed
// over, so that a slow one only delays itself.
type lanes struct {
	limits
	mu      sync.Mutex
	changed *sync.Cond
	tenants map[string]*tenant
	ready   []*tenant // whose turn it is, in order
	waiting int
	closed  bool
}

type tenant struct {
	name      string
	endpoints map[webhook.EndpointID]*lane
	ready     []*lane
	running   int
	queued    bool // in lanes.ready
}

type lane struct {
	*tenant
	id      webhook.EndpointID
	waiting []item
	known   map[webhook.DeliveryID]stage // what waits, or is under way
	running int
	queued  bool // in tenant.ready
}

// stage is how far an item is.
type stage int

const (
	waits stage = iota
	runs
	runsOn // and was offered again meanwhile: what it found may be out of date
)

func newLanes(l limits) *lanes {
	ls := &lanes{limits: l, tenants: map[string]*tenant{}}
	ls.changed = sync.NewCond(&ls.mu)
	return ls
}

// offer has an item wait for its turn. It returns false where there is no room;
// what waits already needs none, and what is under way is taken once more.
func (ls *lanes) offer(i item) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return true // another process will be told
	}
	l := ls.lane(i)
	stage, known := l.known[i.id]
	switch {
	case known && stage != waits:
		l.known[i.id] = runsOn
		return true
	case known:
		return true
	case len(l.waiting) >= ls.backlog:
		return false
	}
	ls.enqueue(l, i)
	return true
}

func (ls *lanes) enqueue(l *lane, i item) {
	l.known[i.id] = waits
	l.waiting = append(l.waiting, i)
	ls.waiting++
	ls.queue(l)
}

func (ls *lanes) lane(i item) *lane {
	t := ls.tenants[i.tenant]
	if t == nil {
		t = &tenant{name: i.tenant, endpoints: map[webhook.EndpointID]*lane{}}
		ls.tenants[i.tenant] = t
	}
	l := t.endpoints[i.endpoint]
	if l == nil {
		l = &lane{tenant: t, id: i.endpoint, known: map[webhook.DeliveryID]stage{}}
		t.endpoints[i.endpoint] = l
	}
	return l
}

// queue lets a lane, and its tenant, wait for their turns where they have
// something to do and may.
func (ls *lanes) queue(l *lane) {
	t := l.tenant
	if !l.queued && len(l.waiting) > 0 && l.running < ls.perEndpoint {
		l.queued = true
		t.ready = append(t.ready, l)
	}
	if !t.queued && len(t.ready) > 0 && t.running < ls.perTenant {
		t.queued = true
		ls.ready = append(ls.ready, t)
		ls.changed.Signal()
	}
}

// take waits for an item whose turn it is. It returns false once the lanes are
// closed.
func (ls *lanes) take() (item, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for len(ls.ready) == 0 && !ls.closed {
		ls.changed.Wait()
	}
	if ls.closed {
		return item{}, false
	}
	t := ls.ready[0]
	ls.ready, t.queued = ls.ready[1:], false
	l := t.ready[0]
	t.ready, l.queued = t.ready[1:], false
	i := l.waiting[0]
	l.waiting = l.waiting[1:]
	ls.waiting--
	l.known[i.id] = runs
	l.running++
	t.running++
	ls.queue(l)
	return i, true
}

// done says that an item which was taken is not under way any more.
func (ls *lanes) done(i item) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.lane(i)
	l.running--
	l.tenant.running--
	if l.known[i.id] == runsOn {
		ls.enqueue(l, i)
	} else {
		delete(l.known, i.id)
		ls.queue(l)
	}
	if len(l.known) == 0 {
		delete(l.endpoints, l.id)
	}
	if len(l.endpoints) == 0 {
		delete(ls.tenants, l.name)
	}
}

// backlogged returns how many items wait.
func (ls *lanes) backlogged() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.waiting
}

// closeWith closes the lanes once ctx ends: nothing is taken any more, and what
// waits is left to another process.
func (ls *lanes) closeWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.closed = true
		ls.changed.Broadcast()
	})
}
