package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/loadtest/crash/ledger"
	"sluice/loadtest/crash/stores"
)

// blow is one way to hurt durable predictions.
type blow struct {
	name string
	hits string // what counts that it met someone; empty where it always does
	do   func(context.Context) error
}

// blows are all of them: one round.
func (b *jobBed) blows() (all []blow) {
	for _, p := range points {
		all = append(all, blow{"killed at " + p.name, p.name, func(ctx context.Context) error { return b.killAt(ctx, p.name) }})
	}
	for _, p := range b.all() {
		all = append(all, blow{p.name + " killed", "", func(context.Context) error { return b.signal(p, syscall.SIGKILL) }})
	}
	return append(all,
		blow{"all killed", "", b.killAll},
		blow{"an attempt held up", "overtaken", b.stall}, blow{"another attempt held up", "overtaken", b.stall},
		blow{"a process frozen", "overtaken", b.freeze},
		blow{"what is held up cancelled", "cancelled", b.cancelHeldUp},
		blow{"killed with cancelled predictions, and the queue emptied", "cancelled", b.killCancelled},
	)
}

// nemesis deals all blows, in an order and at times that the seed decides.
func (b *jobBed) nemesis(ctx context.Context) error {
	for round := range pick(b.settings, 1, 8) {
		all := b.blows()
		for _, i := range b.rng.Perm(len(all)) {
			pause := time.Duration(b.rng.Int64N(int64(pick(b.settings, 2*time.Second, 6*time.Second))))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := all[i].do(ctx); err != nil && !errors.Is(err, errAway) {
				return fmt.Errorf("round %d, %s: %w", round, all[i].name, err)
			}
		}
	}
	return b.makeUp(ctx)
}

// makeUp deals again those blows that nobody came to, as happens when all that
// would have was dead just then.
func (b *jobBed) makeUp(ctx context.Context) error {
	for range 3 {
		for _, blow := range b.blows() {
			if blow.hits == "" || b.hits[blow.hits] > 0 || ctx.Err() != nil {
				continue
			}
			if err := blow.do(ctx); err != nil && !errors.Is(err, errAway) {
				return fmt.Errorf("%s, again: %w", blow.name, err)
			}
		}
	}
	return ctx.Err()
}

// errAway says that a process had ended before it could be hurt.
var errAway = errors.New("it has ended")

func (b *jobBed) signal(p *supervised, s syscall.Signal) error {
	if err := p.hurt(s); err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	return nil
}

// hitLimit is for how long a point may wait for a process.
const hitLimit = 8 * time.Second

// at arms a point, and returns the process that came there.
func (b *jobBed) at(ctx context.Context, point, what string) (pid int, err error) {
	if err := b.armory.arm(point, what); err != nil {
		return 0, err
	}
	pid, err = b.armory.hit(ctx, point, hitLimit)
	if pid == 0 {
		return 0, errors.Join(err, b.armory.disarm(point))
	}
	b.hits[point]++
	return pid, err
}

func (b *jobBed) killAt(ctx context.Context, point string) error {
	_, err := b.at(ctx, point, dies)
	return err
}

func (b *jobBed) killAll(context.Context) error {
	var errs []error
	for _, p := range b.all() {
		errs = append(errs, b.signal(p, syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

// stall holds an attempt up between its run and its outcome, until its lease is
// over and another has ended: then its outcome must not count.
func (b *jobBed) stall(ctx context.Context) error {
	pid, err := b.at(ctx, "ran", sticks)
	if err != nil || pid == 0 {
		return err
	}
	return errors.Join(b.overtaken(ctx), b.armory.release("ran"))
}

// freeze is stall of a whole process.
func (b *jobBed) freeze(ctx context.Context) error {
	pid, err := b.at(ctx, "ran", freezes)
	if err != nil || pid == 0 {
		return err
	}
	return errors.Join(b.overtaken(ctx), send(pid, syscall.SIGCONT))
}

// overtaken waits until everything that runs now has come to an end, that of
// whoever is held up by another attempt.
func (b *jobBed) overtaken(ctx context.Context) (err error) {
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const running = "SELECT id FROM r_predictions WHERE json_extract(doc, '$.status') = 'running' AND json_extract(doc, '$.model') <> '" + killer + "'"
	before, err := ids(ctx, s, running)
	if err != nil || len(before) == 0 {
		return err
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		now, err := ids(ctx, s, running)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(before, func(id string) bool { return slices.Contains(now, id) }) {
			b.hits["overtaken"]++
			return nil
		}
		if time.Since(began) > overtakeLimit || ctx.Err() != nil {
			return ctx.Err() // too much else has died meanwhile
		}
	}
}

// overtakeLimit is less than the time for which an attempt is held up.
const overtakeLimit = 25 * time.Second

// ids returns what a query of one column finds.
func ids(ctx context.Context, s stores.SQLite, query string) (all []string, err error) {
	err = s.Rows(ctx, query, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		all = append(all, id)
		return err
	})
	return all, err
}

// cancelHeldUp has an attempt cancelled between its run and its outcome.
func (b *jobBed) cancelHeldUp(ctx context.Context) error {
	pid, err := b.at(ctx, "ran", waits)
	if err != nil || pid == 0 {
		return err
	}
	return b.cancelRunning(ctx)
}

// killCancelled does that, kills the process, and has the queue lose what is due:
// only the store knows that there is something to do.
func (b *jobBed) killCancelled(ctx context.Context) error {
	pid, err := b.at(ctx, "ran", sticks)
	if err != nil || pid == 0 {
		return err
	}
	return errors.Join(b.cancelRunning(ctx), send(pid, syscall.SIGKILL), b.purgeJobs(ctx))
}

// purgeJobs empties the stream that says which predictions are due.
func (b *jobBed) purgeJobs(ctx context.Context) error {
	nc, err := nats.Connect(b.queue)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, "JOBS")
	if err != nil {
		return err
	}
	return stream.Purge(ctx)
}

// cancelKillers cancels what ends its workers: what was not tried often enough to
// fail is held, for its model is in quarantine.
func (b *jobBed) cancelKillers(ctx context.Context) error {
	for _, c := range b.askers {
		if j := c.killer; j != nil && j.ID != "" {
			if err := c.cancel(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// cancelRunning cancels some of what the store says is running, the latest first:
// others may have lost their workers long ago.
func (b *jobBed) cancelRunning(ctx context.Context) (err error) {
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	running, err := ids(ctx, s, "SELECT id FROM r_predictions WHERE json_extract(doc, '$.status') = 'running' ORDER BY updated_at DESC LIMIT 5")
	if err != nil {
		return err
	}
	for _, id := range running {
		if err := b.cancelOne(ctx, id); err != nil {
			b.logf("a running prediction could not be cancelled: %v", err)
		}
	}
	return nil
}

// cancelOne has a client cancel a prediction that is no killer.
func (b *jobBed) cancelOne(ctx context.Context, id string) error {
	j := b.book.find(id)
	if j == nil || j.Kind != ledger.Plain {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	i := slices.IndexFunc(b.askers, func(c *asker) bool { return c.tenant == j.Tenant })
	if err := b.askers[i].cancel(ctx, j); err != nil {
		return err
	}
	b.hits["cancelled"]++
	return nil
}

// send sends a signal to a process that came to a point.
func send(pid int, s syscall.Signal) error {
	err := syscall.Kill(pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return errAway
	}
	return err
}
