package web

import (
	"errors"
	"os"
	"sync"
	"time"
)

// hangupAfter is how long a request is served before somebody looks whether its client
// has hung up. Most are over by then.
const hangupAfter = 5 * time.Millisecond

// deadline is that of a connection's reads or writes. One that is moved to a later time
// is not told to the connection, whose own then comes early: whom it ends goes on, with
// the one that is wanted by then.
type deadline struct {
	set func(time.Time) error // of the connection

	mu     sync.Mutex
	wanted time.Time // zero for none
	armed  time.Time // the connection's; not later than wanted, unless that is cut; zero for none
	cut    bool      // wanted is long ago: whoever waits is to stop
	inside int       // operations under way
	waits  bool      // one of a single byte, for hangupAfter
	woken  chan struct{}
	timer  *time.Timer
}

// move sets the deadline.
func (d *deadline) move(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted, d.cut = t, !t.IsZero() && t.Unix() <= 1
	switch {
	case d.cut && d.inside == 0: // who comes sees it
		d.signal()
		return nil
	case !d.cut && !d.armed.IsZero() && (t.IsZero() || !t.Before(d.armed)):
		return nil
	case t.IsZero():
		return nil
	}
	return d.arm()
}

// arm tells the connection its deadline. d.mu is held.
func (d *deadline) arm() error {
	d.armed = d.wanted
	return d.set(d.wanted)
}

// early reports whether an operation that failed with err met the connection's deadline and
// not the one that is wanted, and can go on.
func (d *deadline) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut || !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	return d.arm() == nil
}

// enter begins an operation; leave ends it. It is false where the deadline has been
// moved to long ago. One that may wait does so before.
func (d *deadline) enter(wait bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if wait && !d.cut {
		d.wait()
	}
	if d.cut {
		return false
	}
	d.inside++
	return true
}

func (d *deadline) leave() {
	d.mu.Lock()
	d.inside--
	d.mu.Unlock()
}

// wait returns after hangupAfter or when it is woken. d.mu is held, but not meanwhile.
func (d *deadline) wait() {
	if d.timer == nil {
		d.timer, d.woken = time.NewTimer(hangupAfter), make(chan struct{}, 1)
	} else {
		d.timer.Reset(hangupAfter)
	}
	d.waits = true
	d.mu.Unlock()
	select {
	case <-d.woken:
	case <-d.timer.C:
	}
	d.mu.Lock()
	if d.timer.Stop(); !d.waits { // woken, perhaps after the time
		select {
		case <-d.woken:
		default:
		}
	}
	d.waits = false
}

// signal ends wait. d.mu is held.
func (d *deadline) signal() {
	if d.waits {
		d.waits = false
		d.woken <- struct{}{}
	}
}

// wake ends wait: the connection is closed.
func (d *deadline) wake() {
	d.mu.Lock()
	d.signal()
	d.mu.Unlock()
}
