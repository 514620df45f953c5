package idempotency

import "sync"

// ended remembers attempts of this process that are over, and of which the store
// could not be told: it was full, or away. Without it their keys would be refused
// until their leases end, long after the store works again.
type ended struct {
	mu       sync.Mutex
	attempts map[Key]int
}

// maxEnded bounds what is remembered; beyond it leases have to end by themselves.
const maxEnded = 10_000

func (e *ended) add(key Key, attempt int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.attempts) >= maxEnded {
		clear(e.attempts)
	}
	e.attempts[key] = attempt
}

// take says whether the attempt is over, and forgets it.
func (e *ended) take(key Key, attempt int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.attempts[key]
	if ok && n <= attempt {
		delete(e.attempts, key)
	}
	return ok && n == attempt
}
