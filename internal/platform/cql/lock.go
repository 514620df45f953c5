package cql

import (
	"context"
	"errors"
	"time"

	"github.com/gocql/gocql"
)

// A process that migrates holds a row, which ends by itself where the process
// does.
const (
	lockFor   = 60 * time.Second
	lockAgain = lockFor / 4
)

// locked runs f while this process, me, alone holds the lock. f's context ends where
// it is lost.
func (s *Session) locked(ctx context.Context, me string, f func(context.Context) error) error {
	for attempt := 3; ; attempt++ {
		mine, err := s.lock(ctx, me)
		if err != nil && (!unknownTable(err) || attempt > 20) {
			return err
		}
		if mine {
			break
		}
		if !BackOff(ctx, attempt) {
			return ctx.Err()
		}
	}
	// Who had the lock before may have changed what this node does not know yet.
	if err := s.AwaitSchemaAgreement(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.hold(ctx, cancel, me)
	}()
	err := f(ctx)
	cancel()
	<-done
	// It ends by itself where this fails.
	_, _ = s.Repeat(context.WithoutCancel(ctx), `DELETE FROM schema_locks WHERE name = 'migrate' IF owner = ?`, me).MapScanCAS(map[string]any{})
	return err
}

// unknownTable says whether a node refuses a statement for its table, which is
// listed a moment before it can be used.
func unknownTable(err error) bool {
	refused, ok := errors.AsType[Refusal](err)
	return ok && refused.GetCode() == gocql.ErrCodeInvalid
}

// lock takes the lock, unless somebody has it. Taking it again is no harm, so
// that an answer may be lost.
func (s *Session) lock(ctx context.Context, me string) (bool, error) {
	row := map[string]any{}
	applied, err := s.Repeat(ctx, `INSERT INTO schema_locks (name, owner) VALUES ('migrate', ?) IF NOT EXISTS USING TTL ?`, me, Seconds(lockFor)).
		SerialConsistency(s.Serial).MapScanCAS(row)
	return applied || row["owner"] == me, err
}

// hold keeps the lock until ctx ends, and ends it where the lock is lost.
func (s *Session) hold(ctx context.Context, lost context.CancelFunc, me string) {
	t := time.NewTicker(lockAgain)
	defer t.Stop()
	for until := s.now().Add(lockFor); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		sent := s.now()
		applied, err := s.Repeat(ctx, `UPDATE schema_locks USING TTL ? SET owner = ? WHERE name = 'migrate' IF owner = ?`, Seconds(lockFor), me, me).
			SerialConsistency(s.Serial).MapScanCAS(map[string]any{})
		switch {
		case err == nil && applied:
			until = sent.Add(lockFor)
		case err == nil || s.now().After(until.Add(-lockAgain)):
			lost()
			return
		}
	}
}
