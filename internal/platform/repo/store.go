package repo

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// Scope says for whom and by whom something is done. It comes from the
// credential and the request, never from a request's content.
type Scope struct {
	Tenant      string // empty for what belongs to the platform
	Actor       string // the principal's id
	Request     string // the request's id
	Correlation string // ties together all that one request has set in motion
	Causation   string // the id of the message that caused it
	TraceParent string // W3C Trace Context
	// Operation identifies what is done, so that the same ids are made where it
	// is done again; zero makes a new one.
	Operation uuid.UUID
}

// Config holds what a Store may be given; the zero value has defaults.
type Config struct {
	Now      func() time.Time // default time.Now
	NewID    func() uuid.UUID // version 7; default uuid.NewV7
	Attempts int              // runs of a unit of work that meets conflicts; default 32
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	}
	if c.Attempts <= 0 {
		c.Attempts = 32
	}
	return c
}

// Store keeps aggregates in a Driver. It is safe for concurrent use.
type Store struct {
	driver Driver
	cfg    Config
	// turns make units of work that met a conflict go one after the other in
	// this process, by the aggregates that they change: with optimistic locking
	// alone, of n that change the same one n-1 would run in vain each time.
	turns   [64]chan struct{}
	seed    maphash.Seed
	watches []func(*Changeset)
}

// New returns a Store over a driver, which must have been migrated.
func New(driver Driver, cfg Config) *Store {
	s := &Store{driver: driver, cfg: cfg.withDefaults(), seed: maphash.MakeSeed()}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	return s
}

// Driver returns the store's driver, for the relay and for probes.
func (s *Store) Driver() Driver { return s.driver }

// Watch has f called after every commit of this process, before Do returns. Call
// it before the store is used; f must be quick.
func (s *Store) Watch(f func(*Changeset)) { s.watches = append(s.watches, f) }

// Now returns the store's time: UTC, in whole microseconds.
func (s *Store) Now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Read returns a way to read what is committed.
func (s *Store) Read(scope Scope) Reading { return view{s, scope} }

// Do runs fn as a unit of work: what fn writes to tx is committed as a whole
// where fn returns nil, and nothing of it where fn fails or panics or ctx ends
// before the commit.
// fn may run several times and must have no effect but through tx, see
// Tx.AfterCommit.
func (s *Store) Do(ctx context.Context, scope Scope, fn func(ctx context.Context, tx *Tx) error) error {
	if scope.Operation == uuid.Nil {
		scope.Operation = s.cfg.NewID()
	}
	release := func() {}
	defer func() { release() }()
	careful := false
	for attempt := 1; ; attempt++ {
		tx := newTx(s, scope)
		tx.careful = careful
		err := fn(ctx, tx)
		if err == nil {
			err = s.commit(ctx, tx)
		}
		switch {
		case err == nil:
			release() // what is told may begin other units of work
			tx.committed()
			return nil
		case errors.Is(err, ErrExists) && tx.hopeful:
			careful = true
			continue
		case !errors.Is(err, ErrConflict) || attempt >= s.cfg.Attempts:
			return err
		}
		release()
		if release, err = s.takeTurns(ctx, tx.keys()); err != nil {
			return err
		}
		if err := backOff(ctx, attempt); err != nil {
			return err
		}
	}
}

// commit hands the driver what tx holds.
func (s *Store) commit(ctx context.Context, tx *Tx) error {
	c := tx.changeset()
	if c.Empty() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.driver.Commit(ctx, c); err != nil {
		return err
	}
	for _, f := range s.watches {
		f(c)
	}
	return nil
}

// takeTurns waits until no other unit of work of this process that met a
// conflict is about to change one of the aggregates.
func (s *Store) takeTurns(ctx context.Context, keys []Key) (release func(), err error) {
	var places []int
	for _, k := range keys {
		places = append(places, int(maphash.Comparable(s.seed, k)%uint64(len(s.turns))))
	}
	slices.Sort(places) // everybody in the same order: no deadlock
	places = slices.Compact(places)
	taken := 0
	release = func() {
		for ; taken > 0; taken-- {
			<-s.turns[places[taken-1]]
		}
	}
	for _, p := range places {
		select {
		case s.turns[p] <- struct{}{}:
			taken++
		case <-ctx.Done():
			release()
			return func() {}, ctx.Err()
		}
	}
	return release, nil
}

// backOff waits longer from conflict to conflict: those that remain come from
// other processes.
func backOff(ctx context.Context, attempt int) error {
	if attempt < 3 {
		return ctx.Err()
	}
	pause.For(ctx, rand.N(time.Millisecond<<min(attempt, 7)))
	return ctx.Err()
}

// Once runs fn as a unit of work unless the consumer has handled the message
// before, and notes that it has: the inbox. It returns ErrProcessed where it had.
func (s *Store) Once(ctx context.Context, scope Scope, consumer, message string, keep time.Duration, fn func(ctx context.Context, tx *Tx) error) error {
	return s.OnceEach(ctx, scope, consumer, []string{message}, keep, fn)
}

// OnceEach is Once for different messages that are handled together: it returns
// ErrProcessed, and has done nothing, where the consumer had handled one of them.
func (s *Store) OnceEach(ctx context.Context, scope Scope, consumer string, messages []string, keep time.Duration, fn func(ctx context.Context, tx *Tx) error) error {
	if consumer == "" || len(messages) == 0 || slices.Contains(messages, "") {
		return fault.New(fault.Internal, "an inbox mark needs a consumer and a message")
	}
	return s.Do(ctx, scope, func(ctx context.Context, tx *Tx) error {
		for _, m := range messages {
			tx.marks = append(tx.marks, Mark{consumer, m, s.Now().Add(keep)})
		}
		return fn(ctx, tx)
	})
}

// Handled says whether the consumer has handled the message, by Once. It writes
// nothing: near is any key of a kind that the store knows.
func (s *Store) Handled(ctx context.Context, consumer, message string, near Key) (bool, error) {
	const impossible = -1
	err := s.driver.Commit(ctx, &Changeset{ID: s.cfg.NewID().String(), Marks: []Mark{{consumer, message, s.Now().Add(time.Minute)}}, Checks: []Check{{near, impossible}}})
	switch {
	case errors.Is(err, ErrProcessed):
		return true, nil
	case errors.Is(err, ErrConflict):
		return false, nil
	}
	return false, err
}

// RandomName returns a name that no other process has.
func RandomName() string { return uuid.NewString() }
