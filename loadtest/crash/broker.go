package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// broker is a queue's server outside the platform's processes, which can be
// stopped and started again on its address and data.
type broker struct {
	address, folder string
	server          *server.Server
}

func newBroker(dir string) (*broker, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, err
	}
	b := &broker{address: a[0], folder: filepath.Join(dir, "broker")}
	return b, b.start()
}

func (b *broker) url() string { return "nats://" + b.address }

func (b *broker) start() error {
	host, port, err := net.SplitHostPort(b.address)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	b.server, err = server.NewServer(&server.Options{ServerName: "crash", Host: host, Port: n, JetStream: true, StoreDir: b.folder, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	b.server.Start()
	if !b.server.ReadyForConnections(15 * time.Second) {
		return fmt.Errorf("the queue's server does not start on %s", b.address)
	}
	return nil
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// read reads what the queue holds.
func (b *broker) read(ctx context.Context, e *evidence) error {
	nc, err := nats.Connect(b.url())
	if err != nil {
		return err
	}
	defer nc.Close()
	return e.readQueue(ctx, nc)
}

// queueStopped stops the queue's server for a while. Commands go on, and what
// they have to tell waits in the outbox.
func queueStopped(ctx context.Context, s *settings) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	q, err := newBroker(filepath.Join(s.dir, "queue"))
	if err != nil {
		return err
	}
	defer func() { q.stop() }()
	b, err := newBed(s, "queue", "", "SLUICE_NATS_URL="+q.url())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.api.kill()) }()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.begin(ctx, 6, 10*time.Millisecond); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	outage := pick(s, 5*time.Second, 30*time.Second)
	q.stop()
	before, codesBefore := b.tally.snapshot()
	time.Sleep(outage / 2)
	more := b.onlyFails(ctx, "queue")
	time.Sleep(outage / 2)
	after, codes := b.tally.snapshot()
	pending, err := b.api.metric(ctx, "sluice_outbox_pending")
	if err != nil {
		return err
	}
	if pending == 0 || after-before < int(outage.Seconds())*10 || len(codes) != len(codesBefore) {
		more = append(more, fmt.Sprintf("without the queue %d requests were answered in %s, refusals %v, and %v messages wait: expected at least 10 a second, none and some", after-before, outage, codes, pending))
	}
	if err := q.start(); err != nil {
		return err
	}
	back := time.Now()
	recovered, err := b.recovers(ctx, "queue", 30*time.Second)
	if err != nil {
		more = append(more, err.Error())
	}
	time.Sleep(2 * time.Second)
	if err := b.finish(); err != nil {
		return err
	}
	if err := b.drained(ctx, time.Minute, unlogged(b.database())); err != nil {
		more = append(more, err.Error())
	}
	b.logf("%d requests answered in %s without the queue, %v messages waited; ready again after %.1f s, all published after %.1f s",
		after-before, outage, pending, recovered.Seconds(), time.Since(back).Seconds())
	if err := b.api.stop(); err != nil {
		return err
	}
	e, err := b.evidence(ctx, q.read)
	if err != nil {
		return err
	}
	return b.verdict(e, more...)
}

// onlyFails says what is wrong unless readiness names exactly these dependencies.
func (b *bed) onlyFails(ctx context.Context, names ...string) (problems []string) {
	checks, err := b.api.checks(ctx)
	if err != nil {
		return []string{"readiness cannot be asked: " + err.Error()}
	}
	for name, reason := range checks {
		wanted := false
		for _, n := range names {
			wanted = wanted || n == name
		}
		if wanted != (reason != "") {
			problems = append(problems, fmt.Sprintf("readiness says of %s: %q; expected is a failure of %v alone", name, reason, names))
		}
	}
	return problems
}

// recovers waits until a dependency is ready again.
func (b *bed) recovers(ctx context.Context, name string, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	for {
		checks, err := b.api.checks(ctx)
		if err == nil && checks[name] == "" {
			return time.Since(began), nil
		}
		if time.Since(began) > limit {
			return limit, errors.Join(fmt.Errorf("%s was not ready again within %s: %q", name, limit, checks[name]), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
