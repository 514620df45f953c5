package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
)

// Repository is a Store that all nodes share, and that outlives them.
type Repository struct {
	store *repo.Store
	alone time.Time // since when no other process has reserved anything; zero: others may
}

// NewRepository returns reservations in the store, which must have been migrated
// with Schema.
func NewRepository(store *repo.Store) *Repository { return &Repository{store: store} }

// Alone returns the repository for a process that shares its store with no other
// since then. Attempts that were begun before are of a process that is dead: who
// repeats a request after a crash need not wait until their leases end.
func (s *Repository) Alone(since time.Time) *Repository { return &Repository{s.store, since} }

// Schema is what the store's migration has to know.
func Schema() *repo.Schema { return reservations.Schema() }

type reservationID string

// reservation is what is stored of a key; the key itself is only its id's hash.
type reservation struct {
	aggregate.Root[reservationID]
	Fingerprint []byte    `json:"fingerprint"`
	Operation   string    `json:"operation"`
	Attempt     int       `json:"attempt"`
	LeaseEnds   time.Time `json:"lease_ends"`
	Until       time.Time `json:"until"`
	Answer      *stored   `json:"answer,omitempty"`
}

type stored struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
	Secret bool        `json:"secret,omitempty"`
}

// Kind is the name of the reservations in the store, for who purges them.
const Kind = "idempotency_keys"

var reservations = repo.Kind[reservationID, reservation]{
	Name: Kind, Root: func(r *reservation) *aggregate.Root[reservationID] { return &r.Root },
	Expires: func(r *reservation) time.Time { return r.Until },
}

// id is the same for the same key, and says nothing of it.
func (k Key) id() reservationID {
	h := sha256.New()
	for _, part := range []string{k.Principal, k.Route, k.Value} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return reservationID(hex.EncodeToString(h.Sum(nil)))
}

func (k Key) scope() repo.Scope { return repo.Scope{Tenant: k.Tenant, Actor: k.Principal} }

func (r *reservation) view() Reservation {
	out := Reservation{OperationID: r.Operation, Attempt: r.Attempt, LeaseEnds: r.LeaseEnds}
	copy(out.Fingerprint[:], r.Fingerprint)
	if a := r.Answer; a != nil {
		out.Answer = &Answer{a.Status, a.Header, a.Body, a.Secret}
	}
	return out
}

// Reserve implements Store.
func (s *Repository) Reserve(ctx context.Context, key Key, c Claim) (out Reservation, reserved bool, err error) {
	for range 3 { // somebody may be first, just now
		if out, reserved, err = s.reserve(ctx, key, c); !errors.Is(err, repo.ErrExists) {
			break
		}
	}
	return out, reserved && err == nil, err
}

func (s *Repository) reserve(ctx context.Context, key Key, c Claim) (out Reservation, reserved bool, err error) {
	err = s.store.Do(ctx, key.scope(), func(ctx context.Context, tx *repo.Tx) error {
		reserved = false
		now := tx.Now()
		r, err := reservations.Update(ctx, tx, key.id(), func(r *reservation) error {
			ended := !now.Before(r.LeaseEnds) || r.UpdatedAt.Before(s.alone)
			if r.Answer == nil && ended && Fingerprint(r.Fingerprint) == c.Fingerprint {
				r.Attempt, r.LeaseEnds, reserved = r.Attempt+1, now.Add(c.Lease), true
			}
			return nil
		})
		if errors.Is(err, repo.ErrNotFound) {
			r = reservation{Fingerprint: c.Fingerprint[:], Operation: c.OperationID, Attempt: 1, LeaseEnds: now.Add(c.Lease), Until: now.Add(c.Keep)}
			r.ID, reserved = key.id(), true
			err = reservations.Add(ctx, tx, &r)
		}
		out = r.view()
		return err
	})
	return out, reserved, err
}

// Complete implements Store.
func (s *Repository) Complete(ctx context.Context, key Key, attempt int, a Answer) error {
	return s.settle(ctx, key, attempt, func(ctx context.Context, tx *repo.Tx) error {
		_, err := reservations.Update(ctx, tx, key.id(), func(r *reservation) error {
			r.Answer, r.LeaseEnds = &stored{a.Status, a.Header, a.Body, a.Secret}, time.Time{}
			return nil
		})
		return err
	})
}

// Release implements Store.
func (s *Repository) Release(ctx context.Context, key Key, attempt int, forget bool) error {
	return s.settle(ctx, key, attempt, func(ctx context.Context, tx *repo.Tx) error {
		if forget {
			return reservations.Erase(ctx, tx, key.id())
		}
		_, err := reservations.Update(ctx, tx, key.id(), func(r *reservation) error {
			r.LeaseEnds = tx.Now()
			return nil
		})
		return err
	})
}

// settle does what ends an attempt, unless a later one has begun or an answer is
// there.
func (s *Repository) settle(ctx context.Context, key Key, attempt int, do func(ctx context.Context, tx *repo.Tx) error) error {
	return s.store.Do(ctx, key.scope(), func(ctx context.Context, tx *repo.Tx) error {
		r, err := reservations.Get(ctx, tx, key.id())
		if errors.Is(err, repo.ErrNotFound) || err == nil && (r.Attempt != attempt || r.Answer != nil) {
			return nil
		}
		if err != nil {
			return err
		}
		return do(ctx, tx)
	})
}
