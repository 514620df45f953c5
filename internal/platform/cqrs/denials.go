package cqrs

import (
	"sync"
	"time"

	"sluice/internal/platform/access"
)

// deniedEach is how many denials of a principal are audited in a second.
const deniedEach = 10

// denials counts, for the current second, how often each principal was denied.
type denials struct {
	now    func() time.Time
	mu     sync.Mutex
	second int64
	counts map[principalKey]int
}

type principalKey struct{ tenant, subject string }

func newDenials(now func() time.Time) *denials {
	return &denials{now: now, counts: map[principalKey]int{}}
}

// count counts a denial, and returns how many the principal had in this second.
func (d *denials) count(p *access.Principal) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if second := d.now().Unix(); second != d.second {
		d.second = second
		clear(d.counts)
	}
	key := principalKey{p.Tenant, p.Subject}
	d.counts[key]++
	return d.counts[key]
}
