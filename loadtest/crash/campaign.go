package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/loadtest/crash/overlay"
	"sluice/loadtest/crash/stores"
)

// settings are what a run is given.
type settings struct {
	api, worker string // programs
	seed        uint64
	long        bool
	dir         string // of all data and logs
	out         io.Writer
	only        []string // scenarios
	keep        bool     // the data, also where nothing was wrong
	selftest    bool
	changes     *overlay.Overlay // of the programs: a defect; nil for none
	hurt        string           // the folder of the programs that die at points, once they are built
}

// pick returns one of two figures: for the short form, and the long one.
func pick[T any](s *settings, short, long T) T {
	if s.long {
		return long
	}
	return short
}

// bed is one server with clients at work on it.
type bed struct {
	*settings
	name    string
	dir     string
	api     *program
	http    string // the API's address
	gate    *gate
	tally   *tally
	clients []*client
	shared  []*thing
	rng     *rand.Rand
	started time.Time

	stop    chan struct{}
	working sync.WaitGroup
	failed  []error
	mu      sync.Mutex
}

// newBed prepares a server on data of its own. Further environment comes last.
func newBed(s *settings, name string, dataDir string, env ...string) (*bed, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "no-models"), 0o755); err != nil {
		return nil, err
	}
	a, err := addresses(3)
	if err != nil {
		return nil, err
	}
	if dataDir == "" {
		dataDir = filepath.Join(dir, "data")
	}
	base := []string{
		"SLUICE_DATA_DIR=" + dataDir, "SLUICE_MODEL_REPOSITORY=" + filepath.Join(s.dir, "no-models"),
		"SLUICE_HTTP_ADDR=" + a[0], "SLUICE_GRPC_ADDR=" + a[1], "SLUICE_OPS_ADDR=" + a[2], "SLUICE_SHUTDOWN_NOTICE=0s", "SLUICE_LOG_LEVEL=info",
	}
	b := &bed{settings: s, name: name, dir: dataDir, http: a[0], gate: newGate(), tally: newTally(), stop: make(chan struct{}),
		rng: rand.New(rand.NewPCG(s.seed, hash(name)))} // a schedule that can be played again
	b.api = &program{name: "api", bin: s.api, dir: dir, env: append(base, env...), ops: a[2]}
	b.logf("data and log in %s", dir)
	return b, nil
}

func hash(text string) (h uint64) {
	for _, c := range []byte(text) {
		h = h*31 + uint64(c)
	}
	return h
}

func (b *bed) logf(format string, args ...any) {
	fmt.Fprintf(b.out, "%-9s %s\n", b.name, fmt.Sprintf(format, args...))
}

// start starts the server, and lets the clients at it.
func (b *bed) start(ctx context.Context) error {
	err := b.api.start(ctx)
	if err == nil {
		b.gate.set(true)
	}
	return err
}

// begin makes the shared things and sets n clients to work, until ctx ends at
// the latest.
func (b *bed) begin(ctx context.Context, n int, pause time.Duration) error {
	b.started = time.Now()
	call := newCaller("http://"+b.http, b.gate, b.tally)
	first := &client{id: 0, run: "first", call: call, tally: b.tally, rng: b.rng, mix: []string{flags}}
	for range 3 {
		first.n++
		if err := first.create(ctx); err != nil {
			return err
		}
	}
	for _, t := range first.things {
		t.Shared = true
	}
	b.shared = first.things
	b.clients = []*client{first}
	for id := 1; id <= n; id++ {
		c := &client{id: id, run: "c", call: newCaller("http://"+b.http, b.gate, b.tally), tally: b.tally, pause: pause, shared: b.shared,
			mix: []string{flags, flags, tenants, webhooks}, rng: rand.New(rand.NewPCG(b.seed, hash(b.name)+uint64(id)))}
		b.clients = append(b.clients, c)
		b.working.Go(func() {
			if err := c.work(ctx, b.stop); err != nil {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.failed = append(b.failed, err)
			}
		})
	}
	return nil
}

// finish has every client finish its last operation.
func (b *bed) finish() error {
	close(b.stop)
	b.working.Wait()
	return errors.Join(b.failed...)
}

// history returns what the clients know.
func (b *bed) history() history {
	h := history{things: slices.Clone(b.shared)}
	for _, c := range b.clients {
		h.operations = append(h.operations, c.history...)
		if c.id > 0 {
			h.things = append(h.things, c.things...)
		}
	}
	return h
}

// drained waits until the outbox is empty and the audit log has everything:
// behind says how many entries it has not. What a killed process was handling
// comes again when its lease in the queue ends, which is half a minute.
func (b *bed) drained(ctx context.Context, limit time.Duration, behind func(context.Context) (int, error)) error {
	began := time.Now()
	var empty time.Duration
	for {
		n, err := b.api.metric(ctx, "sluice_outbox_pending")
		left := 0
		if err == nil && n == 0 {
			if empty == 0 {
				empty = time.Since(began)
			}
			left, err = behind(ctx)
		}
		if err == nil && n == 0 && left == 0 {
			b.logf("the outbox was empty %.1f s after the last command, the audit log complete after %.1f s", empty.Seconds(), time.Since(began).Seconds())
			return nil
		}
		if time.Since(began) > limit {
			return errors.Join(fmt.Errorf("not drained within %s: %v messages wait in the outbox, the audit log lacks %d entries", limit, n, left), err)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unlogged counts the audit entries in the outbox of a store in SQLite that the
// read model does not have.
func unlogged(path string) func(context.Context) (int, error) {
	return func(ctx context.Context) (n int, err error) {
		s, err := stores.OpenSQLite(path)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return s.Count(ctx, "SELECT count(*) FROM (SELECT message FROM outbox WHERE stream = 'audit' EXCEPT SELECT id FROM r_audit_entries)")
	}
}

// database is where a bed's store is, if it is its own.
func (b *bed) database() string { return filepath.Join(b.dir, "sluice.db") }

// verdict checks everything, says what there was, and fails with what is wrong.
func (b *bed) verdict(e *evidence, more ...string) error {
	h := b.history()
	problems := slices.Concat(more, b.tally.problems, check(h, e))
	if err := b.tally.valid(); err != nil {
		problems = append(problems, "invalid: "+err.Error())
	}
	acknowledged, doubted := 0, 0
	for _, o := range h.operations {
		acknowledged++
		if o.InDoubt {
			doubted++
		}
	}
	took := time.Since(b.started)
	b.logf("%d commands acknowledged in %.0f s (%.0f/s), %d of them after doubt; %d attempts, %d without answer, %d replayed, refusals %v",
		acknowledged, took.Seconds(), float64(acknowledged)/took.Seconds(), doubted, b.tally.attempts, b.tally.lost, b.tally.replays, b.tally.codes)
	b.logf("checked: %d records, %d events, %d audit entries, %d keys", len(e.records), len(e.events), len(e.leaves), len(e.reservations))
	if len(problems) == 0 {
		return nil
	}
	if err := b.keepHistory(h); err != nil {
		problems = append(problems, err.Error())
	}
	shown := problems[:min(len(problems), 15)]
	return fmt.Errorf("%d problems:\n  %s", len(problems), strings.Join(shown, "\n  "))
}

// keepHistory writes the history beside the data, for who looks for the cause.
func (b *bed) keepHistory(h history) error {
	data, err := json.MarshalIndent(h.operations, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.settings.dir, b.name, "history.json"), data, 0o644)
}
