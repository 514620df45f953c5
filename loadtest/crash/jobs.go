package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sluice/loadtest/crash/ledger"
	"sluice/loadtest/crash/stores"
)

// jobs kills processes at random times, and where it hurts, while clients have
// predictions made durably, and has a program of its own look at what is left.
func jobs(ctx context.Context, s *settings) (err error) {
	b, err := newJobBed(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	ctx, cancel := context.WithTimeout(ctx, pick(s, 4*time.Minute, 60*time.Minute))
	defer cancel()
	if err := b.open(ctx); err != nil {
		return err
	}
	began := time.Now()
	for i, c := range b.askers {
		b.working.Go(func() {
			if err := c.work(ctx, b.stop); err != nil {
				b.askers[i].call.tally.wrong("%v", err)
			}
		})
	}
	if err := b.nemesis(ctx); err != nil {
		return err
	}
	for b.book.size() < pick(s, 500, 10_000) && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	close(b.stop)
	b.working.Wait()
	if err := b.cancelKillers(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	settled := b.settle(ctx, pick(s, 40*time.Second, 3*time.Minute))
	b.logf("%d predictions asked for in %.0f s (%.0f/s); %d processes were killed: %s; points %v; settled after %.0f s more",
		b.book.size(), took.Seconds(), float64(b.book.size())/took.Seconds(), b.kills(), b.ends(), b.hits, (time.Since(began) - took).Seconds())
	b.logf("%d attempts, %d without answer, %d replayed, refusals %v", b.tally.attempts, b.tally.lost, b.tally.replays, b.tally.codes)
	problems := b.problems()
	if err := b.endAll(); err != nil {
		problems = append(problems, err.Error())
	}
	found, err := b.checked(ctx)
	if err != nil {
		return err
	}
	if problems = append(problems, found...); len(problems) == 0 && settled != nil {
		return settled
	}
	return failed(problems)
}

// failed is the error that tells of problems, nil where there are none.
func failed(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%d problems:\n  %s", len(problems), strings.Join(problems[:min(len(problems), 15)], "\n  "))
}

// unsettled counts what has not come to an end in the store, and predictions of the
// tenant with a webhook that have no delivery yet: who matches events may have died,
// and is followed after its lease.
const unsettled = `SELECT (SELECT count(*) FROM r_predictions WHERE json_extract(doc, '$.status') NOT IN ('succeeded', 'failed', 'cancelled', 'expired')) +
	(SELECT count(*) FROM r_webhook_deliveries WHERE json_extract(doc, '$.status') IN ('pending', 'sending')) +
	(SELECT count(*) FROM (SELECT id FROM r_predictions WHERE tenant = '` + hooked + `' EXCEPT SELECT json_extract(doc, '$.subject') FROM r_webhook_deliveries)) +
	(SELECT count(*) FROM (SELECT message FROM outbox WHERE stream = 'audit' EXCEPT SELECT id FROM r_audit_entries))`

// settle waits until everything has come to an end.
func (b *jobBed) settle(ctx context.Context, limit time.Duration) (err error) {
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for began := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		n, err := s.Count(ctx, unsettled)
		pending := 0
		err2 := s.Pending(ctx, func(string, string) { pending++ })
		if err = errors.Join(err, err2); err == nil && n == 0 && pending == 0 {
			return nil
		}
		if time.Since(began) > limit || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("not settled within %s: %d things have not ended, %d messages wait in the outbox", limit, n, pending), err)
		}
	}
}

// kills returns how many processes have ended that were not asked to.
func (b *jobBed) kills() (n int) {
	for _, p := range b.all() {
		ends, _ := p.count()
		n += ends
	}
	return n
}

func (b *jobBed) ends() string {
	var text []string
	for _, p := range b.all() {
		n, _ := p.count()
		text = append(text, fmt.Sprintf("%s %d", p.name, n))
	}
	return strings.Join(text, ", ")
}

// problems are those that the campaign itself has seen.
func (b *jobBed) problems() []string {
	problems := b.tally.problems
	for _, p := range points {
		if b.hits[p.name] == 0 {
			problems = append(problems, "invalid: no process came to the point "+p.name)
		}
	}
	if b.hits["cancelled"] == 0 {
		problems = append(problems, "invalid: nothing was cancelled while its worker died")
	}
	if b.hits["overtaken"] == 0 {
		problems = append(problems, "invalid: no attempt that was held up was overtaken by another")
	}
	if b.tally.lost == 0 || b.tally.replays == 0 {
		problems = append(problems, fmt.Sprintf("invalid: %d attempts lost their answer and %d answers were replayed: neither may be 0", b.tally.lost, b.tally.replays))
	}
	return problems
}

// checked has the checker look at what is left, and returns what is wrong.
func (b *jobBed) checked(ctx context.Context) ([]string, error) {
	l := &ledger.Ledger{Run: ledger.Run{Seed: b.seed, Kills: b.kills(), Attempts: b.tally.attempts, Good: b.tally.good}, Hooked: hooked, Hooks: b.receiver.hooks()}
	for _, j := range b.book.jobs {
		l.Jobs = append(l.Jobs, *j)
	}
	dir := filepath.Join(b.settings.dir, b.name)
	file := filepath.Join(dir, "ledger.jsonl")
	if err := l.Write(file); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(b.settings.api), "jobcheck"), "-ledger", file, "-data", b.dir, "-queue", filepath.Join(dir, "nats"), "-models", b.models)
	cmd.Env, cmd.Stderr = foreign(os.Environ()), os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("the checker: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	b.logf("%s", lines[len(lines)-1])
	return lines[:len(lines)-1], nil
}
