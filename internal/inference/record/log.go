package record

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// Appender stores entries. It recognises by id and attempt those that it has already: they
// count once. It retains neither the list nor the entries after it returns.
type Appender interface {
	Append(ctx context.Context, entries []*Entry) error
}

// LogConfig holds the settings of a Log. Zero values have the defaults.
type LogConfig struct {
	Buffer   int           // entries that may wait; default 32,768
	Batch    int           // entries appended at once; default 4,096
	Interval time.Duration // how long entries are collected; default 250 ms
	// Content is how many bytes of tensors may wait, see Entry.Take; default 64 MiB. Entries
	// beyond that are logged without their tensors.
	Content int64
	// Key returns the key that a tenant's texts are hashed with; nil hashes none.
	Key     func(tenant string) []byte
	Metrics prometheus.Registerer // nil registers nowhere
	Log     *slog.Logger          // nil discards
}

// Log takes entries from the hot path and appends them, in batches. It is safe for
// concurrent use.
type Log struct {
	to      Appender
	cfg     LogConfig
	buffer  chan *Entry
	pool    sync.Pool
	metrics logMetrics
	crowded chan struct{} // wakes Run: the buffer is half full
	holds   atomic.Int64  // bytes of tensors that wait
	refused sync.Once     // logs the first entry that fails Check

	appending sync.Mutex // held by the one reader of buffer; guards what follows
	full      bool       // whether the store was full at the last batch
	batch     []*Entry   // taken from the buffer, and not known to be appended yet
}

type logMetrics struct{ appended, dropped, failures, bare prometheus.Counter }

// NewLog returns a log in front of a store.
func NewLog(to Appender, cfg LogConfig) (*Log, error) {
	cfg.Buffer = cmp.Or(cfg.Buffer, 32<<10)
	cfg.Batch = cmp.Or(cfg.Batch, 4<<10)
	cfg.Content = cmp.Or(cfg.Content, 64<<20)
	cfg.Interval = cmp.Or(cfg.Interval, 250*time.Millisecond)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Buffer < 1 || cfg.Batch < 1 || cfg.Interval < 0 {
		return nil, fault.New(fault.Invalid, "record: the buffer, the batch and the interval have to be positive")
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	l := &Log{to: to, cfg: cfg, buffer: make(chan *Entry, cfg.Buffer), crowded: make(chan struct{}, 1), pool: sync.Pool{New: func() any { return new(Entry) }}, metrics: logMetrics{
		appended: counter("sluice_record_appended_total", "Entries of the prediction log that its store has."),
		dropped:  counter("sluice_record_dropped_total", "Entries of the prediction log that were lost: the buffer was full, the store refused them, or could not be reached at the end."),
		failures: counter("sluice_record_append_failures_total", "Batches of the prediction log that could not be appended, and were tried again."),
		bare:     counter("sluice_record_content_dropped_total", "Entries of the prediction log without the tensors that they should have: these were too large, or too many waited."),
	}}
	if cfg.Metrics == nil {
		return l, nil
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_record_waiting", Help: "Entries of the prediction log that are not appended yet."},
		func() float64 { return float64(len(l.buffer)) })
	for _, c := range []prometheus.Collector{l.metrics.appended, l.metrics.dropped, l.metrics.failures, l.metrics.bare, waiting} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return l, nil
}

// Entry returns an empty entry, to be filled and given to Record.
func (l *Log) Entry() *Entry { return l.pool.Get().(*Entry) }

// Record takes an entry, which is the log's from now on. It never waits: without
// room the entry is dropped and counted, and so is one that fails Check, which would
// take its batch with it.
func (l *Log) Record(e *Entry) {
	if err := e.Check(); err != nil {
		l.refused.Do(func() {
			l.cfg.Log.Error("a prediction cannot be logged; further ones are only counted", "error", err)
		})
		l.drop(e)
		return
	}
	l.weigh(e)
	select {
	case l.buffer <- e:
	default:
		l.drop(e)
		return
	}
	if len(l.buffer) >= (l.cfg.Buffer+1)/2 {
		select {
		case l.crowded <- struct{}{}:
		default:
		}
	}
}

func (l *Log) drop(e *Entry) {
	l.metrics.dropped.Inc()
	l.free(e)
}

// weigh leaves out the tensors of an entry where too many wait.
func (l *Log) weigh(e *Entry) {
	switch size := int64(len(e.raw)); {
	case e.bare:
		l.metrics.bare.Inc()
	case e.policy == nil:
	case l.holds.Add(size) > l.cfg.Content:
		l.holds.Add(-size)
		e.policy = nil
		l.metrics.bare.Inc()
	default:
		e.weight = size
	}
}

// maxKept is how much memory an entry keeps for the next one's tensors.
const maxKept = 16 << 10

func (l *Log) free(e *Entry) {
	l.holds.Add(-e.weight)
	raw := e.raw[:0]
	if cap(raw) > maxKept {
		raw = nil
	}
	*e = Entry{raw: raw}
	l.pool.Put(e)
}

// Run appends what comes until ctx ends. Flush what came later.
func (l *Log) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if len(l.buffer) < l.cfg.Batch {
			l.collect(ctx)
		}
		l.next(ctx)
	}
	return nil
}

// collect waits for entries: for the interval, or until the buffer is half full, so
// that the interval does not bound how many are logged in a second.
func (l *Log) collect(ctx context.Context) {
	t := time.NewTimer(l.cfg.Interval)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.crowded:
	case <-ctx.Done():
	}
}

// End appends all that has come, as Flush does, or counts what it cannot append as
// dropped and says so. Nothing may be recorded any more.
func (l *Log) End(ctx context.Context) error {
	err := l.Flush(ctx)
	if err == nil {
		return nil
	}
	l.appending.Lock()
	defer l.appending.Unlock()
	lost := len(l.batch) + len(l.buffer)
	for _, e := range l.batch {
		l.drop(e)
	}
	clear(l.batch)
	l.batch = l.batch[:0]
	for range len(l.buffer) {
		l.drop(<-l.buffer)
	}
	l.cfg.Log.ErrorContext(ctx, "predictions were not logged before the end", "predictions", lost, "error", err)
	return err
}

// Flush appends all that has come, or fails with what keeps it from that.
func (l *Log) Flush(ctx context.Context) error {
	for {
		if more, err := l.once(ctx); err != nil || !more {
			return err
		}
	}
}

// Sync appends what has come until now, or fails with what keeps it from that. Unlike
// Flush it ends while more keeps coming.
func (l *Log) Sync(ctx context.Context) error {
	for range len(l.buffer)/l.cfg.Batch + 2 { // one batch may be waiting to be tried again
		if more, err := l.once(ctx); err != nil || !more {
			return err
		}
	}
	return nil
}

// Bounds of the time between two tries to append a batch.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// next appends a batch, however often that takes.
func (l *Log) next(ctx context.Context) {
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		_, err := l.once(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		l.cfg.Log.WarnContext(ctx, "predictions could not be logged; that is tried again", "error", err)
		pause.For(ctx, wait)
	}
}

// once tries to append a batch: the last one again, where it is not known to be
// appended. It says whether there may be more.
func (l *Log) once(ctx context.Context) (more bool, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	if len(l.batch) == 0 { // else the same is tried again
		for range min(len(l.buffer), l.cfg.Batch) {
			e := <-l.buffer
			e.settle(l.cfg.Key)
			l.batch = append(l.batch, e)
		}
	}
	if len(l.batch) == 0 {
		return false, nil
	}
	switch err = l.to.Append(ctx, l.batch); {
	case err == nil:
		l.metrics.appended.Add(float64(len(l.batch)))
	case errors.Is(err, ErrFull):
		l.metrics.dropped.Add(float64(len(l.batch)))
		if !l.full {
			l.cfg.Log.ErrorContext(ctx, "predictions are not logged any more", "error", err)
		}
	case hopeless(err):
		l.metrics.dropped.Add(float64(len(l.batch)))
		l.cfg.Log.ErrorContext(ctx, "predictions cannot be logged", "predictions", len(l.batch), "error", err)
	default:
		l.metrics.failures.Inc()
		return true, err
	}
	l.full = errors.Is(err, ErrFull)
	for _, e := range l.batch {
		l.free(e)
	}
	clear(l.batch)
	l.batch = l.batch[:0]
	return true, nil
}

// hopeless says whether a batch that failed would do so again.
func hopeless(err error) bool {
	return fault.Is(err, fault.Invalid) || fault.Is(err, fault.Unprocessable)
}
