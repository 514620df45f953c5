package repo

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// LeaseName names what only one process at a time may do.
type LeaseName string

// lease says who does it, and until when.
type lease struct {
	aggregate.Root[LeaseName]
	Owner string    `json:"owner"`
	Token int64     `json:"token"`
	Until time.Time `json:"until"`
}

// leases holds all leases; they belong to no tenant.
var leases = Kind[LeaseName, lease]{Name: "leases", Root: func(l *lease) *aggregate.Root[LeaseName] { return &l.Root }}

// LeaseSchema is what Migrate has to know where leases are used.
func LeaseSchema() *Schema { return leases.Schema() }

// ErrLeased is returned for a lease that somebody else has.
var ErrLeased = fault.New(fault.Conflict, "another process has the lease").WithCode("leased")

// Lease is the right to be the only one who does something. Token grows with
// every new owner: what is done under a lease carries it, so that the work of an
// owner that was only slow can be told apart. Owners compare the lease's end
// with their own clocks: these must agree to within a fraction of its length.
type Lease struct {
	Name  LeaseName
	Owner string
	Token int64
	Until time.Time
	store *Store
}

var leaseScope = Scope{Actor: "system"}

// Acquire takes the lease for ttl, or fails with ErrLeased. Who has it already
// extends it.
func (s *Store) Acquire(ctx context.Context, name LeaseName, owner string, ttl time.Duration) (*Lease, error) {
	taken := &Lease{Name: name, Owner: owner, store: s}
	err := s.Do(ctx, leaseScope, func(ctx context.Context, tx *Tx) error {
		until := tx.Now().Add(ttl)
		taken.Until = until
		_, err := leases.Update(ctx, tx, name, func(l *lease) error {
			if l.Owner != owner && tx.Now().Before(l.Until) {
				return ErrLeased
			}
			if l.Owner != owner {
				l.Token++
			}
			l.Owner, l.Until = owner, until
			taken.Token = l.Token
			return nil
		})
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		taken.Token = 1
		fresh := &lease{Owner: owner, Token: 1, Until: until}
		fresh.ID = name
		return leases.Add(ctx, tx, fresh)
	})
	switch {
	case errors.Is(err, ErrExists):
		return nil, ErrLeased // somebody was first, just now
	case err != nil:
		return nil, err
	}
	return taken, nil
}

// Renew extends the lease by ttl from now; it fails with ErrLeased where it was
// lost.
func (l *Lease) Renew(ctx context.Context, ttl time.Duration) error {
	return l.change(ctx, func(kept *lease, now time.Time) {
		kept.Until = now.Add(ttl)
		l.Until = kept.Until
	})
}

// Release ends the lease, so that the next owner need not wait.
func (l *Lease) Release(ctx context.Context) error {
	return l.change(ctx, func(kept *lease, now time.Time) { kept.Owner, kept.Until = "", now })
}

func (l *Lease) change(ctx context.Context, f func(kept *lease, now time.Time)) error {
	return l.store.Do(ctx, leaseScope, func(ctx context.Context, tx *Tx) error {
		_, err := leases.Update(ctx, tx, l.Name, func(kept *lease) error {
			if kept.Owner != l.Owner || kept.Token != l.Token {
				return ErrLeased
			}
			f(kept, tx.Now())
			return nil
		})
		return err
	})
}

// Hold runs do while it renews the lease, and releases it at the end. The context
// of do ends with ctx, and when the lease is lost: then Hold fails with
// ErrLeased.
func (l *Lease) Hold(ctx context.Context, ttl time.Duration, do func(ctx context.Context) error) error {
	held, lose := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { lose(l.keep(held, ttl)) })
	err := do(held)
	lose(nil)
	renewing.Wait()
	if errors.Is(context.Cause(held), ErrLeased) {
		return errors.Join(ErrLeased, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
	defer cancel()
	if released := l.Release(ctx); !errors.Is(released, ErrLeased) {
		err = errors.Join(err, released) // who waits for it waits until it ends
	}
	return err
}

// keep renews the lease until ctx ends, which is no error, or it is lost or about
// to end.
func (l *Lease) keep(ctx context.Context, ttl time.Duration) error {
	const step = 500 * time.Millisecond
	period := ttl / 3
	if period > step {
		period = period.Truncate(step) // so that leases of other lengths have beats in common with it
	}
	for pause.For(ctx, untilBeat(period)) {
		bounded, cancel := context.WithTimeout(ctx, ttl/3)
		err := l.Renew(bounded, ttl)
		cancel()
		if errors.Is(err, ErrLeased) || err != nil && !l.store.Now().Add(ttl/3).Before(l.Until) {
			return errors.Join(ErrLeased, err)
		}
	}
	return nil
}

// untilBeat is how long it takes to the next whole multiple of a period on the clock: leases that are renewed as
// often are renewed together, so that they share a commit.
func untilBeat(period time.Duration) time.Duration {
	return period - time.Duration(time.Now().UnixNano()%int64(period))
}
