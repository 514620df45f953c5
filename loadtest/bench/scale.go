package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"sluice/internal/client"
	"sluice/internal/client/plan"
	"sluice/internal/inference/batcher"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// measureScale says how cost grows with the number of models, tenants and nodes. It has no
// goals: docs/CAPACITY.md draws its conclusions from it.
func measureScale(ctx context.Context, b *bench) error {
	models, tenants, nodes := []int{10, 100, 1000}, []int{1, 100, 10_000}, []int{1, 2, 4, 16, 64}
	if b.short {
		models, tenants, nodes = []int{5, 20}, []int{1, 1000}, []int{1, 4}
	}
	for _, n := range models {
		if err := b.scaleModels(ctx, n); err != nil {
			return err
		}
	}
	for _, n := range tenants {
		if err := b.scaleTenants(ctx, n); err != nil {
			return err
		}
	}
	if err := b.scaleStored(ctx); err != nil {
		return err
	}
	for _, name := range []string{"mid_mlp", "transformer"} {
		if err := b.scaleNodes(ctx, name, nodes); err != nil {
			return err
		}
	}
	return nil
}

// scaleModels starts a server with so many models and looks at what it takes, at rest and
// for a request to one of them.
func (b *bench) scaleModels(ctx context.Context, n int) error {
	name := fmt.Sprintf("models-%d", n)
	repository, data := filepath.Join(b.dir, name), filepath.Join(b.dir, name+"-data")
	for i := range n {
		if err := os.CopyFS(filepath.Join(repository, fmt.Sprintf("tiny_mlp_%04d", i)), os.DirFS(modelDir("tiny_mlp"))); err != nil {
			return err
		}
	}
	var ready [2]time.Duration // first with an empty data folder
	for i := range ready {
		s, err := b.start(ctx, name, repository, data)
		if err != nil {
			return err
		}
		ready[i] = s.Ready
		if i == len(ready)-1 {
			err = b.scaleModel(ctx, s, n, ready)
		}
		if stopErr := s.Stop(); err == nil {
			err = stopErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) scaleModel(ctx context.Context, s *target.Sluice, n int, ready [2]time.Duration) error {
	rss, err := s.RSS()
	if err != nil {
		return err
	}
	w, err := b.models.New(ctx, "tiny_mlp", 1)
	if err != nil {
		return err
	}
	w.Model = fmt.Sprintf("tiny_mlp_%04d", n/2)
	if err := w.Address(s.HTTP, load.Binary); err != nil {
		return err
	}
	pool, err := load.Dial(s.HTTP, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	one, err := b.serve(ctx, s, pool, load.Load{Requests: w.Requests}, w.Model, b.span(2*time.Second))
	if err != nil {
		return err
	}
	b.report.line("%5d models: ready %.2f s after the first start, %.2f after the next; %.0f MB resident; a request to one takes %.0f us of CPU, p50 %.0f us", n,
		ready[0].Seconds(), ready[1].Seconds(), float64(rss)/1e6, micros(one.cpu)/float64(max(one.OK, 1)), micros(one.Latency.Quantile(.5)))
	return nil
}

// scaleTenants has a batcher answer requests of so many tenants in turn.
func (b *bench) scaleTenants(ctx context.Context, n int) error {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%06d", i)
	}
	bt, err := batcher.New(func(context.Context, []*batcher.Task[int]) error { return nil }, batcher.Config{MaxRows: 32, SLO: time.Second})
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	task := &batcher.Task[int]{Rows: 1}
	answered, used, began := 0, processor(), time.Now()
	for time.Since(began) < b.span(time.Second) {
		for range 1000 {
			task.Tenant = names[answered%n]
			if _, err := bt.Submit(ctx, task); err != nil {
				return err
			}
			answered++
		}
	}
	used = processor() - used
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.report.line("%5d tenants in turn: %.0f ns of CPU a request in the batcher, %.0f B kept for each", n,
		float64(used)/float64(answered), max(float64(after.HeapAlloc)-float64(before.HeapAlloc), 0)/float64(n))
	runtime.KeepAlive(bt)
	return nil
}

// scaleStored says what is kept on disk for each durable prediction and each entry of the
// prediction log.
func (b *bench) scaleStored(ctx context.Context) error {
	span := b.span(2 * time.Second)
	rate, err := b.submissions(ctx, "scale-jobs.db", 0)
	if err != nil {
		return err
	}
	jobs, err := sizeOf(filepath.Join(b.dir, "scale-jobs.db"))
	if err != nil {
		return err
	}
	const entries = 100_000
	store, err := sqliterecord.Open(ctx, filepath.Join(b.dir, "scale-log.db"), sqliterecord.Config{})
	if err != nil {
		return err
	}
	_, err = fillLog(ctx, store, time.Now().UTC().Add(-48*time.Hour).Truncate(24*time.Hour), entries)
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	log, err := sizeOf(filepath.Join(b.dir, "scale-log.db"))
	if err != nil {
		return err
	}
	b.report.line("on disk, SQLite: %.0f B for each accepted prediction, with its audit entry and event, that has a small body; %.0f B for each entry of the prediction log",
		float64(jobs)/(rate*span.Seconds()), float64(log)/entries)
	return nil
}

// sizeOf returns the size of a database that is closed, what is beside it included.
func sizeOf(db string) (total int64, err error) {
	files, err := filepath.Glob(db + "*")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}

// scaleNodes simulates nodes behind a balancer, at 70 % of what they can do together, and
// then with one of them lost.
func (b *bench) scaleNodes(ctx context.Context, name string, nodes []int) error {
	s, err := b.benchServer(ctx)
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URL: "http://" + s.HTTP})
	if err != nil {
		return err
	}
	defer c.Close()
	var node plan.Node
	if err := c.Get(ctx, "/v1/models/"+name+"/costs", &node); err != nil {
		return err
	}
	d := plan.Demand{Rate: 1, Rows: 1, P99: time.Second, Request: 60 * time.Microsecond}
	one, err := plan.Predict(node, d)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for _, how := range []plan.Balance{plan.Random, plan.RoundRobin, plan.LeastOfTwo} {
			d.Rate = .7 * one.Peak * float64(n)
			all, err := plan.Cluster(node, d, n, how)
			if err != nil {
				return err
			}
			lost := "not enough"
			if n > 1 {
				if fewer, err := plan.Cluster(node, d, n-1, how); err == nil {
					lost = fmt.Sprintf("%.2f ms", millis(fewer.P99))
				}
			}
			b.report.line("%-12s %2d nodes, %-12s simulated at 70%% of the peak, %8.0f/s: p50 %.2f p99 %.2f ms, with one lost p99 %s", name, n, how+",", d.Rate, millis(all.P50), millis(all.P99), lost)
		}
	}
	return nil
}
