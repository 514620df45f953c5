package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"sluice/internal/platform/pause"
)

// relays runs the program and two workers over one store and one queue, and
// kills or freezes whoever carries the outbox. Another takes over, and never do
// two carry at once.
func relays(ctx context.Context, s *settings) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	q, err := newBroker(filepath.Join(s.dir, "relays"))
	if err != nil {
		return err
	}
	defer q.stop()
	data := filepath.Join(s.dir, "relays", "data")
	shared := []string{"SLUICE_NATS_URL=" + q.url(), "SLUICE_DATABASE_URL=sqlite:" + filepath.Join(data, "sluice.db")}
	b, err := newBed(s, "relays", data, shared...)
	if err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	processes := []*program{b.api}
	defer func() {
		for _, p := range processes {
			err = errors.Join(err, p.kill())
		}
	}()
	for i := range 2 {
		p, err := b.newWorker(i, append(shared, "SLUICE_DATA_DIR="+data)...)
		if err != nil {
			return err
		}
		processes = append(processes, p)
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	if err := b.begin(ctx, 4, 10*time.Millisecond); err != nil {
		return err
	}
	w := &watch{path: b.database(), processes: processes, owners: map[string]bool{}, ignored: make(chan *program), busy: make(chan *program)}
	watched, stop := context.WithCancel(ctx)
	watching := make(chan error, 1)
	go func() { watching <- w.run(watched) }()
	for round := range pick(s, 2, 12) {
		if err := b.takeOver(ctx, w, round); err != nil {
			stop()
			return errors.Join(err, <-watching)
		}
	}
	if err := b.finish(); err != nil {
		stop()
		return err
	}
	drained := b.drained(ctx, 2*time.Minute, unlogged(b.database()))
	stop()
	if err := errors.Join(<-watching, drained); err != nil {
		return err
	}
	b.logf("%d samples of who carries, %d owners", w.samples, len(w.owners))
	var more []string
	if len(w.owners) < 2 {
		more = append(more, "invalid: the outbox never changed its owner")
	}
	more = append(more, w.problems...)
	for _, p := range processes {
		if err := p.stop(); err != nil {
			more = append(more, err.Error())
		}
	}
	e, err := b.evidence(ctx, q.read)
	if err != nil {
		return err
	}
	return b.verdict(e, more...)
}

func (b *bed) newWorker(i int, env ...string) (*program, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, err
	}
	return &program{name: fmt.Sprintf("worker-%d", i), bin: b.worker, dir: filepath.Join(b.settings.dir, b.name), ops: a[0],
		env: append(env, "SLUICE_OPS_ADDR="+a[0], "SLUICE_SHUTDOWN_NOTICE=0s", "SLUICE_JOB_CONCURRENCY=0")}, nil
}

// takeOver kills who carries, or freezes it until its lease has ended, and waits
// for another to carry.
func (b *bed) takeOver(ctx context.Context, w *watch, round int) error {
	victim, err := w.carrier(ctx, nil)
	if err != nil {
		return err
	}
	began := time.Now()
	freeze := round%2 == 1 && victim != b.api
	if victim == b.api {
		b.gate.set(false)
	}
	if freeze {
		w.ignore(victim)
		err = b.freeze(ctx, victim)
	} else {
		err = victim.kill()
	}
	if err != nil {
		return err
	}
	if !freeze {
		if err := victim.start(ctx); err != nil {
			return err
		}
		b.gate.set(true)
	}
	other := victim
	if !freeze {
		other = nil // it may be the same again, under another name
	}
	next, err := w.carrier(ctx, other)
	if err != nil {
		return err
	}
	if freeze {
		if err := victim.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // it notices that it has lost its lease
		w.ignore(nil)
	}
	b.logf("%s ended carrying (frozen: %t); %s carries after %.1f s", victim.name, freeze, next.name, time.Since(began).Seconds())
	return nil
}

// freeze stops a process where it does not hold the store's lock: SQLite gives
// that to nobody else while the process exists, so that all would wait for it.
func (b *bed) freeze(ctx context.Context, p *program) (err error) {
	db, err := sql.Open("sqlite3", "file:"+b.database()+"?_txlock=immediate&_busy_timeout=3000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for {
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			return tx.Rollback()
		}
		if e, ok := errors.AsType[sqlite3.Error](err); !ok || e.Code != sqlite3.ErrBusy {
			return errors.Join(err, p.cmd.Process.Signal(syscall.SIGCONT))
		}
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		pause.For(ctx, 50*time.Millisecond)
	}
}

// watch samples who owns the outbox, and who publishes.
type watch struct {
	path      string
	processes []*program
	samples   int
	owners    map[string]bool
	problems  []string
	ignored   chan *program
	busy      chan *program // who published last
}

func (w *watch) ignore(p *program) { w.ignored <- p }

// carrier waits until a process publishes that is not the other one.
func (w *watch) carrier(ctx context.Context, other *program) (*program, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for {
		select {
		case p := <-w.busy:
			if p != other {
				return p, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("nobody carries the outbox: %w", ctx.Err())
		}
	}
}

// run samples until ctx ends. Between two looks at the lease that see the same
// token, no two processes may have published.
func (w *watch) run(ctx context.Context) (err error) {
	db, err := sql.Open("sqlite3", "file:"+w.path+"?_query_only=true&_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var ignored *program
	counts := map[*program]float64{}
	before := ""
	for ctx.Err() == nil {
		select {
		case ignored = <-w.ignored:
		case <-time.After(100 * time.Millisecond):
		}
		published := w.published(ctx, counts)
		var owner, token string
		err := db.QueryRowContext(ctx, "SELECT doc ->> 'owner', doc ->> 'token' FROM r_leases WHERE id = 'relay-0'").Scan(&owner, &token)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, sql.ErrNoRows) {
				continue
			}
			return err
		}
		w.samples++
		w.owners[owner] = true
		now := owner + " " + token
		w.judge(published, ignored, now == before, now)
		before = now
	}
	return nil
}

// published returns who has published since the last call.
func (w *watch) published(ctx context.Context, counts map[*program]float64) (out []*program) {
	for _, p := range w.processes {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		n, err := p.metric(short, "sluice_relay_published_total")
		cancel()
		if err != nil {
			delete(counts, p) // it is down, or frozen
			continue
		}
		if last, known := counts[p]; known && n > last {
			out = append(out, p)
		}
		counts[p] = n
	}
	return out
}

func (w *watch) judge(published []*program, ignored *program, steady bool, owner string) {
	n := 0
	for _, p := range published {
		if p == ignored {
			continue
		}
		n++
		select {
		case w.busy <- p:
		default:
		}
	}
	if steady && n > 1 {
		w.problems = append(w.problems, fmt.Sprintf("%d processes published while the lease was %s", n, owner))
	}
}
