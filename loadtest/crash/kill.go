package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/loadtest/crash/stores"
)

// killed kills the server at random points in many rounds of concurrent
// commands, on the embedded parts, and looks at what is left.
func killed(ctx context.Context, s *settings) (err error) {
	b, err := newBed(s, "killed", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.api.kill()) }()
	rounds := pick(s, 25, 200)
	ctx, cancel := context.WithTimeout(ctx, pick(s, 4*time.Minute, 40*time.Minute))
	defer cancel()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.begin(ctx, 8, pick(s, 15*time.Millisecond, 60*time.Millisecond)); err != nil {
		return err
	}
	var starts time.Duration
	for round := range rounds {
		// Most rounds are long enough for the relay to be at work.
		life := time.Duration(b.rng.Int64N(int64(1800 * time.Millisecond)))
		select {
		case <-time.After(life):
		case <-ctx.Done():
			return fmt.Errorf("round %d: %w", round, ctx.Err())
		}
		if err := b.api.kill(); err != nil {
			return err
		}
		b.gate.set(false)
		began := time.Now()
		if err := b.start(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		starts += time.Since(began)
	}
	if err := b.finish(); err != nil {
		return err
	}
	b.logf("%d kills; a start takes %d ms", rounds, (starts / time.Duration(rounds)).Milliseconds())
	var more []string
	if err := b.drained(ctx, 90*time.Second, unlogged(b.database())); err != nil {
		more = append(more, err.Error())
	}
	e, err := b.embedded(ctx)
	if err != nil {
		return err
	}
	if b.tally.lost == 0 || b.tally.replays == 0 {
		more = append(more, fmt.Sprintf("invalid: %d attempts lost their answer and %d answers were replayed: neither may be 0", b.tally.lost, b.tally.replays))
	}
	return b.verdict(e, more...)
}

// embedded stops the server and reads what its embedded parts hold.
func (b *bed) embedded(ctx context.Context) (*evidence, error) {
	if err := b.api.stop(); err != nil {
		return nil, err
	}
	return b.evidence(ctx, func(ctx context.Context, e *evidence) error {
		return stores.Queue(filepath.Join(b.dir, "nats"), func(nc *nats.Conn) error { return e.readQueue(ctx, nc) })
	})
}

// evidence reads what SQLite, a queue and the audit log hold.
func (b *bed) evidence(ctx context.Context, queue func(context.Context, *evidence) error) (*evidence, error) {
	e := newEvidence()
	if err := e.readSQLite(ctx, b.database()); err != nil {
		return nil, err
	}
	if err := queue(ctx, e); err != nil {
		return nil, err
	}
	return e, e.readFolder(ctx, b.dir)
}
