package resilience

import "sync"

// budget is a bucket of retries, counted in millionths so that nothing is lost
// to rounding: each call puts a share of one in, each retry takes one out.
type budget struct {
	mu           sync.Mutex
	have         int64
	share, limit int64
}

const retryCost = 1_000_000

func newBudget(share float64, reserve int) *budget {
	limit := int64(reserve) * retryCost
	return &budget{have: limit, share: int64(share * retryCost), limit: limit}
}

func (b *budget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.have = min(b.have+b.share, b.limit)
}

func (b *budget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have < retryCost {
		return false
	}
	b.have -= retryCost
	return true
}
