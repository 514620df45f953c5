// Package watch keeps a view of what the store has up to date: it says when to read
// again. What this process commits says so at once, what others commit the stream of
// events, and a slow poll whatever neither has told.
package watch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Config says what is watched, and how.
type Config struct {
	Kinds  []string                    // of the platform's aggregates
	Read   func(context.Context) error // reads the store; never called twice at a time
	Failed prometheus.Counter          // counts readings that failed
	// Poll is how often the store is read, whatever the queue says; default 5s.
	Poll time.Duration
	Log  *slog.Logger // nil discards
}

// Watcher says when to read.
type Watcher struct {
	cfg     Config
	queue   queue.Reader
	changed chan struct{} // has a token where the store may have something new
}

// New returns a watcher of a store. Call it before the store is used.
func New(store *repo.Store, q queue.Reader, cfg Config) *Watcher {
	cfg.Poll = cmp.Or(max(cfg.Poll, 0), 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{cfg: cfg, queue: q, changed: make(chan struct{}, 1)}
	store.Watch(func(c *repo.Changeset) {
		if slices.ContainsFunc(c.Puts, func(p repo.Put) bool { return slices.Contains(cfg.Kinds, p.Kind) }) {
			w.wake()
		}
	})
	return w
}

func (w *Watcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default: // whoever takes the token reads what is there then
	}
}

// Run watches the store until ctx ends. While the store does not answer, what was
// read before holds.
func (w *Watcher) Run(ctx context.Context) error {
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		w.listen(ctx)
	}()
	defer func() { <-listening }()
	poll := time.NewTicker(w.cfg.Poll)
	defer poll.Stop()
	for {
		select {
		case <-w.changed:
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
		if err := w.cfg.Read(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Failed.Inc()
			w.cfg.Log.WarnContext(ctx, "what the store has cannot be read; what was known before holds, and it is tried again", "kinds", w.cfg.Kinds, "error", err)
		}
	}
}

// listenPause is for how long a queue that cannot be read is left alone.
const listenPause = time.Second

// listen wakes the watcher at what others have changed, until ctx ends.
func (w *Watcher) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.hear(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Log.WarnContext(ctx, "the queue cannot be read; what other nodes change is seen when the store is next asked", "kinds", w.cfg.Kinds, "error", err)
		}
		w.wake() // something may have been missed
		pause.For(ctx, listenPause)
	}
}

// hear reads events from now on.
func (w *Watcher) hear(ctx context.Context) error {
	const stream = "EVENTS"
	b, err := w.queue.Bounds(ctx, stream)
	if err != nil {
		return err
	}
	w.wake() // what came before is in the store
	var subjects []string
	for _, kind := range w.cfg.Kinds {
		subjects = append(subjects, repo.StreamEvents+"._."+kind+".*")
	}
	for _, err := range w.queue.Read(ctx, queue.Read{Stream: stream, Filters: subjects, From: b.Last + 1, Follow: true}) {
		if err != nil {
			return err
		}
		w.wake()
	}
	return errors.New("the stream of events has ended")
}
