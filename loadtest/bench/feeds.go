package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/loadtest/target"
)

const (
	feedConsumers = 2000
	feedRate      = 50 // events a second
	feedBacklog   = 2000
	feedPath      = "/v1/events/stream?kind=feature_flags&id=bench"
)

// measureFeeds has consumers of one feed on connections of their own, and changes
// a flag at a steady rate: each change is an event for each of them. Phases
// without and with one consumer that never reads take turns; a consumer that got
// anything but the next event, or not all of them, fails the measurement. What a
// connection takes is what the server has grown by, after a collection: how much
// garbage lies beside it depends on runtime.gogc.
func measureFeeds(ctx context.Context, b *bench) (err error) {
	phase, rounds := 2*time.Second, 10
	if b.short {
		rounds = 2
	}
	none := filepath.Join(b.dir, "no-models")
	if err := os.Mkdir(none, 0o700); err != nil {
		return err
	}
	s, err := b.start(ctx, "feeds", none, filepath.Join(b.dir, "feeds-data"))
	if err != nil {
		return err
	}
	f := &feeds{bench: b, server: s, client: &http.Client{Timeout: 30 * time.Second}, phase: phase}
	defer func() { err = errors.Join(err, f.close(), s.Stop()) }()
	if err := f.prepare(ctx); err != nil {
		return err
	}
	p50, p99 := map[bool][]float64{}, map[bool][]float64{}
	var ratios []float64
	for round := range rounds {
		pair := map[bool]latencies{}
		for _, stall := range []bool{round%2 == 1, round%2 == 0} { // neither is always the later one
			if pair[stall], err = f.run(ctx, stall); err != nil {
				return err
			}
			p50[stall], p99[stall] = append(p50[stall], pair[stall].p50), append(p99[stall], pair[stall].p99)
		}
		ratios = append(ratios, pair[true].p99/pair[false].p99)
	}
	after, err := f.memory(ctx)
	if err != nil {
		return err
	}
	each := func(bytes float64) float64 { return bytes / (feedConsumers - 1) / 1024 }
	rate := float64(f.published) / f.publishing.Seconds()
	b.report.line("%d consumers at %.1f events/s: %d deliveries, none missing, repeated or out of order", feedConsumers, rate, f.delivered)
	slices.Sort(ratios)
	quarter := (len(ratios) - 1) / 4
	b.report.line("p50 %.1f ms, p99 %.1f ms; with a stalled consumer %.1f and %.1f ms (medians of %d phases each; the ratios of p99 are within %.2f and %.2f, half of them within %.2f and %.2f)",
		median(p50[false]), median(p99[false]), median(p50[true]), median(p99[true]), rounds, ratios[0], ratios[len(ratios)-1], ratios[quarter], ratios[len(ratios)-1-quarter])
	b.report.line("each connection: %.1f KiB in use, %.1f KiB resident with garbage; CPU per delivery: server %.1f us, consumers %.1f us",
		each(after.used-f.before.used), each(after.resident-f.before.resident), micros(f.served)/float64(f.delivered), micros(f.own)/float64(f.delivered))
	b.report.set("feed_rate", rate)
	b.report.set("feed_memory", each(after.used-f.before.used))
	b.report.set("feed_stall", 100*(median(ratios)-1))
	return nil
}

// footprint is what a server takes, in bytes.
type footprint struct {
	resident float64 // what the system has given to it, garbage and all
	used     float64 // heap and stacks right after a collection
}

// memory returns what the server takes after a collection.
func (f *feeds) memory(ctx context.Context) (m footprint, err error) {
	rss, err := f.server.RSS()
	if err != nil {
		return m, err
	}
	heap, err := f.server.Get(ctx, "/debug/pprof/heap?gc=1")
	if err != nil {
		return m, err
	}
	if f.profiles != "" {
		if err := os.WriteFile(filepath.Join(f.profiles, fmt.Sprintf("feeds-%d.heap", len(f.consumers))), []byte(heap), 0o600); err != nil {
			return m, err
		}
	}
	page, err := f.server.Metrics(ctx)
	return footprint{float64(rss), page.Sum("go_memstats_heap_inuse_bytes", "") + page.Sum("go_memstats_stack_inuse_bytes", "")}, err
}

// feeds is a server and its consumers.
type feeds struct {
	*bench
	server      *target.Sluice
	client      *http.Client
	phase       time.Duration
	consumers   []*consumer
	changes     int       // that were made so far
	before      footprint // with one consumer
	delivered   int
	published   int
	publishing  time.Duration // how long that took
	served, own time.Duration // CPU time of the phases
}

func (f *feeds) close() error {
	f.client.CloseIdleConnections()
	var errs []error
	for _, c := range f.consumers {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// prepare makes events that a stalled consumer chokes on, and connects the
// consumers, who get only what comes after them.
func (f *feeds) prepare(ctx context.Context) error {
	if err := f.send(ctx, http.MethodPost, "/v1/feature-flags", `{"key":"bench"}`); err != nil {
		return err
	}
	f.changes = 1 + feedBacklog
	for i := range feedBacklog {
		if err := f.change(ctx, i); err != nil {
			return err
		}
	}
	if err := f.connect(ctx, 1, "&after=earliest"); err != nil {
		return err
	}
	if _, err := f.consumers[0].take(ctx, f.changes, f.changes); err != nil {
		return err
	}
	if _, err := f.run(ctx, false); err != nil { // the server has its buffers now
		return err
	}
	var err error
	if f.before, err = f.memory(ctx); err != nil {
		return err
	}
	if err := f.connect(ctx, feedConsumers, ""); err != nil {
		return err
	}
	if _, err := f.run(ctx, false); err != nil {
		return err
	}
	f.delivered, f.served, f.own, f.published, f.publishing = 0, 0, 0, 0, 0
	return nil
}

// connect adds consumers until there are n.
func (f *feeds) connect(ctx context.Context, n int, from string) error {
	for len(f.consumers) < n {
		c, err := dialFeed(ctx, f.server.HTTP, feedPath+from)
		if err != nil {
			return err
		}
		f.consumers = append(f.consumers, c)
	}
	for _, c := range f.consumers {
		if err := c.await(ctx, c.opened); err != nil {
			return err
		}
	}
	return nil
}

// publish makes n events at the rate, each when it is due or as soon as it can.
func (f *feeds) publish(ctx context.Context, n int) error {
	var publishers errgroup.Group
	publishers.SetLimit(64)
	began := time.Now()
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / feedRate)))
		publishers.Go(func() error { return f.change(ctx, i) })
	}
	err := publishers.Wait()
	f.publishing += time.Since(began)
	f.published += n
	f.changes += n
	return err
}

// change makes one event: the flag's percentage is never twice the same.
func (f *feeds) change(ctx context.Context, i int) error {
	return f.send(ctx, http.MethodPatch, "/v1/feature-flags/bench", fmt.Sprintf(`{"percent":%d}`, i%100))
}

func (f *feeds) send(ctx context.Context, method, path, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+f.server.HTTP+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("If-Match", "*")
	resp, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}

// latencies are those of all deliveries of a phase, in milliseconds.
type latencies struct{ p50, p99 float64 }

// run makes events for a phase, and waits until every consumer has all of them.
func (f *feeds) run(ctx context.Context, stall bool) (latencies, error) {
	before, err := f.server.Metrics(ctx)
	if err != nil {
		return latencies{}, err
	}
	if stall {
		stop, err := stallFeed(ctx, f.server.HTTP, feedPath+"&after=earliest")
		if err != nil {
			return latencies{}, err
		}
		defer stop()
	}
	runtime.GC() // not in the middle of the phase
	own, served, err := bothCPU(f.server)
	if err != nil {
		return latencies{}, err
	}
	profiled := f.profile(ctx, f.server, "feeds", f.phase)
	n := int(f.phase.Seconds() * feedRate)
	target := f.changes + n
	if err := f.publish(ctx, n); err != nil {
		return latencies{}, err
	}
	var all []time.Duration
	for i, c := range f.consumers {
		took, err := c.take(ctx, target, n)
		if err != nil {
			return latencies{}, fmt.Errorf("consumer %d: %w", i, err)
		}
		all = append(all, took...)
	}
	ownAfter, servedAfter, err := bothCPU(f.server)
	if err = errors.Join(err, profiled()); err != nil {
		return latencies{}, err
	}
	after, err := f.server.Metrics(ctx)
	if err != nil {
		return latencies{}, err
	}
	const sent = "sluice_feed_events_sent_total"
	if surplus := int(after.Sum(sent, "")-before.Sum(sent, "")) - len(all); stall && surplus >= feedBacklog {
		return latencies{}, fmt.Errorf("the stalled consumer was sent %d events: it did not stall", surplus)
	}
	f.delivered, f.own, f.served = f.delivered+len(all), f.own+ownAfter-own, f.served+servedAfter-served
	return latencies{quantile(all, .5), quantile(all, .99)}, nil
}

// settle is how long consumers have to catch up after a phase.
const settle = 30 * time.Second
