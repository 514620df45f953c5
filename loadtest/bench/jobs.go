package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// jobClients is how many clients submit durable predictions at a time.
const jobClients = 64

// measureJobs measures durable predictions: what sharing commits gives their
// acceptance, how many are accepted over HTTP, and how soon results are there.
func measureJobs(ctx context.Context, b *bench) error {
	if err := b.sharedSubmissions(ctx); err != nil {
		return err
	}
	if err := b.acceptedJobs(ctx); err != nil {
		return err
	}
	return b.jobResults(ctx)
}

// sharedSubmissions compares submissions through the bus that share commits with
// as many that have a transaction each, in turns.
func (b *bench) sharedSubmissions(ctx context.Context) error {
	rates := map[string][]float64{}
	for round := range b.rounds() {
		for name, batch := range map[string]int{"shared": 0, "one each": 1} {
			rate, err := b.submissions(ctx, fmt.Sprintf("jobs-%s-%d.db", name[:3], round), batch)
			if err != nil {
				return err
			}
			rates[name] = append(rates[name], rate)
		}
	}
	shared, alone := median(rates["shared"]), median(rates["one each"])
	syncs, err := syncsPerSecond(b.dir, b.span(time.Second))
	if err != nil {
		return err
	}
	b.report.line("%d callers submit through the bus, synchronous=FULL: %.0f predictions/s sharing commits, %.0f/s with a transaction each; the disk syncs %.0f times/s",
		jobClients, shared, alone, syncs)
	b.report.set("jobs_shared", shared/alone)
	return nil
}

// submissions returns how many predictions a second are accepted by a store that
// commits so many at once.
func (b *bench) submissions(ctx context.Context, name string, batch int) (rate float64, err error) {
	d, err := sqliterepo.Open(ctx, filepath.Join(b.dir, name), sqliterepo.Config{Batch: batch})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Migrate(ctx, []*repo.Schema{job.Predictions.Schema(), repo.LeaseSchema()}); err != nil {
		return 0, err
	}
	bus, err := cqrs.NewBus(repo.New(d, repo.Config{}), cqrs.Config{AuditKey: make([]byte, 32), Metrics: prometheus.NewRegistry(), Tracer: tracenoop.NewTracerProvider().Tracer("")})
	if err != nil {
		return 0, err
	}
	job.Register(bus, job.Config{})
	ctx = access.With(ctx, &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(job.Run)})
	return perSecond(jobClients, b.span(2*time.Second), func() error {
		_, err := cqrs.Send(ctx, bus, job.Submit{Model: "tiny_mlp", Input: job.Payload{Inline: json.RawMessage(`{"inputs":[]}`)}})
		return err
	})
}

// perSecond has so many goroutines do something again and again for a while, and
// returns how often a second it was done.
func perSecond(goroutines int, length time.Duration, do func() error) (float64, error) {
	var (
		all    sync.WaitGroup
		n      atomic.Int64
		failed = make(chan error, goroutines)
	)
	began := time.Now()
	for range goroutines {
		all.Go(func() {
			for time.Since(began) < length {
				if err := do(); err != nil {
					failed <- err
					return
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	rate := float64(n.Load()) / time.Since(began).Seconds()
	select {
	case err := <-failed:
		return rate, err
	default:
		return rate, nil
	}
}

// acceptedRate is the rate at which predictions have to be accepted in time.
const acceptedRate = 3000

// acceptedJobs has clients submit to a server that leaves the running to others: at
// acceptedRate first, and then as much as they can, since that leaves a backlog for
// relay and audit log.
func (b *bench) acceptedJobs(ctx context.Context) error {
	return b.submit(ctx, "accept", "respond-async", http.StatusAccepted, func(c *submitters) error {
		before, err := c.server.CPU()
		if err != nil {
			return err
		}
		due, err := c.open(ctx, acceptedRate)
		if err != nil {
			return err
		}
		after, err := c.server.CPU()
		if err != nil {
			return err
		}
		p99 := ofDue(due, 0.99)
		b.report.line("over HTTP, %d clients, an API alone, at %d/s: p50 %.1f p99 %.1f ms from when each was due, %d of %d unsent, %s of the server's CPU for each",
			jobClients, acceptedRate, millis(due.Latency.Quantile(0.5)), p99, due.Unsent, due.Due, ((after - before) / time.Duration(max(due.OK, 1))).Round(time.Microsecond))
		b.report.set("jobs_accept_p99", p99)
		most, err := c.most(ctx)
		if err != nil {
			return err
		}
		b.report.line("as much as they can: %.0f predictions/s accepted, p50 %.1f p99 %.1f ms", most.Rate(), millis(most.Latency.Quantile(0.5)), millis(most.Latency.Quantile(0.99)))
		b.report.set("jobs_accepted", most.Rate())
		return nil
	}, "SLUICE_JOB_CONCURRENCY=0", "SLUICE_JOB_MAX_QUEUED_PER_TENANT=100000000", "SLUICE_JOB_MAX_QUEUED=100000000", "SLUICE_JOB_MAX_WAIT=720h")
}

// ofDue returns a quantile of the latency of all that was due, in milliseconds. What was not sent or not
// answered counts as infinitely late.
func ofDue(r *load.Result, q float64) float64 {
	at, beyond := r.Latency.Beside(r.Due-r.OK, q)
	if beyond {
		return math.Inf(1)
	}
	return millis(at)
}

// jobResults has clients wait for the results of predictions: as many as they can,
// and then at half of that rate.
func (b *bench) jobResults(ctx context.Context) error {
	return b.submit(ctx, "results", "wait=10", http.StatusOK, func(c *submitters) error {
		most, err := c.most(ctx)
		if err != nil {
			return err
		}
		half, err := c.open(ctx, most.Rate()/2)
		if err != nil {
			return err
		}
		p99 := ofDue(half, 0.99)
		b.report.line("accepted, run and answered in one process: %.0f predictions/s; at half of that results are there after p50 %.1f p99 %.1f ms, %d of %d unsent",
			most.Rate(), millis(half.Latency.Quantile(0.5)), p99, half.Unsent, half.Due)
		b.report.set("jobs_result_p99", p99)
		return nil
	})
}

// submitters are the clients of one server.
type submitters struct {
	*bench
	name   string
	server *target.Sluice
	pool   *load.Pool
	load   load.Load
}

// most has them submit as much as they can for a while.
func (c *submitters) most(ctx context.Context) (*load.Result, error) {
	r := c.pool.Closed(ctx, c.load, c.span(10*time.Second))
	return r, failures(r)
}

// open has them submit at a rate for a while, which is profiled.
func (c *submitters) open(ctx context.Context, rate float64) (*load.Result, error) {
	profiled := c.profile(ctx, c.server, c.name, c.span(10*time.Second))
	r, err := c.pool.Open(ctx, c.load, load.Poisson(rate, 1), c.span(10*time.Second))
	if err == nil {
		err = failures(r)
	}
	return r, errors.Join(err, profiled())
}

// submit starts a server and clients of it, and has them measured.
func (b *bench) submit(ctx context.Context, name, prefer string, status int, measure func(*submitters) error, env ...string) (err error) {
	repository := filepath.Join(b.dir, name+"-models")
	if err := os.CopyFS(filepath.Join(repository, "tiny_mlp"), os.DirFS(modelDir("tiny_mlp"))); err != nil {
		return err
	}
	s, err := b.start(ctx, name, repository, filepath.Join(b.dir, name), env...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	w, err := b.workload(ctx, s, "tiny_mlp", 1, load.JSON)
	if err != nil {
		return err
	}
	c := &submitters{bench: b, name: name, server: s, load: load.Load{Status: status, Backoff: backoff}}
	for _, r := range w.Requests {
		fields := "Content-Type: application/json\r\nPrefer: " + prefer + "\r\n"
		c.load.Requests = append(c.load.Requests, &load.Request{Wire: load.Post(s.HTTP, "/v1/models/tiny_mlp/predictions", fields, load.Body(r.Wire))})
	}
	if c.pool, err = load.Dial(s.HTTP, jobClients); err != nil {
		return err
	}
	defer c.pool.Close()
	if err := failures(c.pool.Closed(ctx, c.load, b.span(2*time.Second))); err != nil { // warm
		return err
	}
	return measure(c)
}
