package directory

import (
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// How often a password can be guessed: so many times in so long, for each login
// and process. It is more than people need, and too little to find one.
const (
	maxAttempts   = 10
	attemptWindow = 5 * time.Minute
	maxLogins     = 100_000 // that are remembered, known or not
)

// attempts counts sign-ins of each login since the last that succeeded. Its zero
// value is empty.
type attempts struct {
	mu sync.Mutex
	of map[UserID]tries
}

type tries struct {
	n     int
	until time.Time
}

// take counts an attempt, or refuses it. It counts before the password is
// checked: a thousand attempts at once are a thousand attempts.
func (a *attempts) take(id UserID, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.of[id]
	if !now.Before(t.until) {
		t = tries{until: now.Add(attemptWindow)}
		a.makeRoom(now)
	}
	if t.n == maxAttempts {
		return fault.New(fault.Exhausted, "there were too many attempts to sign in as this user: wait").WithCode("sign_in_throttled").WithRetryAfter(t.until.Sub(now))
	}
	t.n++
	a.of[id] = t
	return nil
}

// makeRoom forgets what has ended, and everything where that is not enough.
func (a *attempts) makeRoom(now time.Time) {
	if a.of == nil {
		a.of = map[UserID]tries{}
	}
	if len(a.of) < maxLogins {
		return
	}
	for id, t := range a.of {
		if !now.Before(t.until) {
			delete(a.of, id)
		}
	}
	if len(a.of) >= maxLogins {
		clear(a.of)
	}
}

func (a *attempts) forget(id UserID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, id)
}
