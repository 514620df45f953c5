package limit

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Memory is a Backend in this process. It keeps one number for each key, the
// time at which its quota is full again, and at most a fixed number of keys.
type Memory struct {
	now    func() time.Time
	began  time.Time
	seed   maphash.Seed
	max    int // keys of a shard
	shards [shards]shard
}

const shards = 32

type shard struct {
	mu   sync.Mutex
	full map[Key]time.Duration // since began
	_    [40]byte              // keeps the locks of two shards off one cache line
}

// sampled is how many keys are looked at to make room for another.
const sampled = 8

// NewMemory returns a backend for at most maxKeys keys (about 150 bytes each),
// by the clock now. Beyond them it forgets those whose quota is nearest to full,
// which costs the server the least.
func NewMemory(now func() time.Time, maxKeys int) *Memory {
	m := &Memory{now: now, began: now(), seed: maphash.MakeSeed(), max: max(1, maxKeys/shards)}
	for i := range m.shards {
		m.shards[i].full = map[Key]time.Duration{}
	}
	return m
}

// Take counts one request. It never fails.
func (m *Memory) Take(_ context.Context, key Key, p Policy) (Decision, error) {
	now := m.now().Sub(m.began)
	s := &m.shards[maphash.Comparable(m.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	full, known := s.full[key]
	if !known && len(s.full) >= m.max {
		s.makeRoom(now)
	}
	d, full := p.step(now, full)
	s.full[key] = full
	return d, nil
}

// step is the algorithm: at time now a quota, full again at the given time, is
// asked for one request.
func (p Policy) step(now, full time.Duration) (Decision, time.Duration) {
	each := p.Window / time.Duration(p.Quota) // for one request to come back
	whole := each * time.Duration(p.Quota)    // for all
	missing := max(0, full-now)
	allowed := missing <= whole-each
	if allowed {
		missing += each
	}
	left := whole - missing
	return Decision{Allowed: allowed, Remaining: int64(left / each), Reset: each - left%each}, now + missing
}

// makeRoom forgets one key at least: of some that are looked at, all whose quota
// is full, or else the nearest to it.
func (s *shard) makeRoom(now time.Duration) {
	var nearest Key
	least, seen := time.Duration(0), 0
	forgot := false
	for key, full := range s.full { // starts anywhere
		if full <= now {
			delete(s.full, key)
			forgot = true
		}
		if seen == 0 || full < least {
			nearest, least = key, full
		}
		if seen++; seen == sampled {
			break
		}
	}
	if !forgot {
		delete(s.full, nearest)
	}
}
