package record

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes is an Appender in memory that can be made to fail.
type notes struct {
	mu      sync.Mutex
	batches [][]string // codes of the entries
	fail    func(batch int) error
	calls   int
}

func (n *notes) Append(_ context.Context, entries []*Entry) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	if n.fail != nil {
		if err := n.fail(n.calls); err != nil {
			return err
		}
	}
	var batch []string
	for _, e := range entries {
		batch = append(batch, e.Code)
	}
	n.batches = append(n.batches, batch)
	return nil
}

func (n *notes) all() (codes []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.batches {
		codes = append(codes, b...)
	}
	return codes
}

func (l *Log) note(code int) {
	e := l.Entry()
	e.ID, e.Tenant, e.At, e.Code = ID{1}, "acme", time.UnixMilli(1), strconv.Itoa(code)
	l.Record(e)
}

// Every entry is appended once and in order, or counted as dropped, whatever the
// sizes and however often the store fails.
func TestNothingIsLostUncounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		failures := rapid.IntRange(0, 3).Draw(rt, "failures")
		store := &notes{fail: func(call int) error {
			if call%4 < failures {
				return fault.New(fault.Unavailable, "away")
			}
			return nil
		}}
		l, err := NewLog(store, LogConfig{Buffer: rapid.IntRange(1, 50).Draw(rt, "buffer"), Batch: rapid.IntRange(1, 20).Draw(rt, "batch")})
		if err != nil {
			rt.Fatal(err)
		}
		n := 0
		for _, burst := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 8).Draw(rt, "bursts") {
			for range burst {
				l.note(n)
				n++
			}
			_ = l.Flush(rt.Context()) // may fail
		}
		for l.Flush(rt.Context()) != nil {
		}
		codes := store.all()
		if got := len(codes) + int(testutil.ToFloat64(l.metrics.dropped)); got != n {
			rt.Fatalf("%d of %d entries are accounted for", got, n)
		}
		last := -1
		for _, c := range codes {
			i, _ := strconv.Atoi(c)
			if i <= last {
				rt.Fatalf("entry %d came after %d", i, last)
			}
			last = i
		}
	})
}

// A store that hangs makes no request wait.
func TestRecordNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		l, err := NewLog(appendFunc(func(context.Context, []*Entry) error { <-hang; return nil }), LogConfig{Buffer: 10, Batch: 5, Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = l.Run(ctx) })
		start := time.Now()
		l.note(0)
		time.Sleep(time.Second) // the log takes its first batch, which hangs
		for i := range 100 {
			l.note(i)
		}
		if got := testutil.ToFloat64(l.metrics.dropped); got != 90 {
			t.Errorf("%v entries were dropped, want 90 of 101", got)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("recording took %s of the test", took)
		}
		close(hang)
		time.Sleep(time.Second)
		stop()
		running.Wait()
		if got := testutil.ToFloat64(l.metrics.appended); got != 11 {
			t.Errorf("%v entries were appended, want 11", got)
		}
	})
}

// A batch that the store will never take is dropped and counted; the next are
// appended.
func TestPoisonedBatch(t *testing.T) {
	store := &notes{fail: func(call int) error {
		if call == 1 {
			return fault.New(fault.Invalid, "never")
		}
		return nil
	}}
	l, err := NewLog(store, LogConfig{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l.note(i)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.all(); len(got) != 1 || got[0] != "2" || testutil.ToFloat64(l.metrics.dropped) != 2 {
		t.Errorf("appended %v", got)
	}
}

// An end of the process during an outage leaves Flush one try.
func TestFlushSaysWhatFails(t *testing.T) {
	away := errors.New("away")
	l, err := NewLog(&notes{fail: func(int) error { return away }}, LogConfig{})
	if err != nil {
		t.Fatal(err)
	}
	l.note(1)
	if err := l.Flush(t.Context()); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
}

// An entry that no store takes is dropped alone: its batch is appended.
// Sync appends what waited, and what is being tried again, but does not run after what
// comes meanwhile.
func TestSyncEnds(t *testing.T) {
	var l *Log
	appended, fails := 0, true
	l, err := NewLog(appendFunc(func(_ context.Context, entries []*Entry) error {
		if fails {
			return errors.New("away")
		}
		appended += len(entries)
		for range entries { // as many come as go
			l.note(0)
		}
		return nil
	}), LogConfig{Buffer: 100, Batch: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 35 {
		l.note(i)
	}
	if err := l.Sync(t.Context()); err == nil {
		t.Error("nothing was appended, and nothing said")
	}
	fails = false
	if err := l.Sync(t.Context()); err != nil || appended < 35 {
		t.Errorf("%d of 35 were appended, %v", appended, err)
	}
}

func TestWrongEntryIsDroppedAlone(t *testing.T) {
	store := &notes{}
	l, err := NewLog(store, LogConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i, spoil := range []func(*Entry){
		func(e *Entry) { e.Tenant = "" }, func(e *Entry) { e.ID = ID{} }, func(e *Entry) { e.At = time.Time{} }, func(e *Entry) { e.Outcome = 99 },
	} {
		l.note(i)
		e := l.Entry()
		*e = Entry{ID: ID{1}, Tenant: "acme", At: time.UnixMilli(1)}
		spoil(e)
		l.Record(e)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.all(); len(got) != 4 || testutil.ToFloat64(l.metrics.dropped) != 4 {
		t.Errorf("appended %v, dropped %v", got, testutil.ToFloat64(l.metrics.dropped))
	}
}

// What the end of the process leaves unwritten is counted and told.
func TestEndTellsWhatIsLost(t *testing.T) {
	var told bytes.Buffer
	away := errors.New("away")
	l, err := NewLog(&notes{fail: func(call int) error {
		if call > 1 {
			return away
		}
		return nil
	}}, LogConfig{Batch: 2, Log: slog.New(slog.NewTextHandler(&told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		l.note(i)
	}
	if err := l.End(t.Context()); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if got := testutil.ToFloat64(l.metrics.dropped); got != 5 || !strings.Contains(told.String(), "predictions=5") {
		t.Errorf("%v are counted as dropped, want 5; told: %s", got, &told)
	}
}

// A buffer that is half full is written at once, however long the interval.
func TestCrowdedBufferIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLog(&notes{}, LogConfig{Buffer: 10, Batch: 100, Interval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = l.Run(ctx) })
		synctest.Wait()
		for i := range 4 {
			l.note(i)
		}
		synctest.Wait()
		if got := testutil.ToFloat64(l.metrics.appended); got != 0 {
			t.Errorf("%v entries were appended before the interval was over", got)
		}
		l.note(4)
		synctest.Wait()
		if got := testutil.ToFloat64(l.metrics.appended); got != 5 {
			t.Errorf("%v entries were appended, want 5", got)
		}
		stop()
		running.Wait()
	})
}

type appendFunc func(context.Context, []*Entry) error

func (f appendFunc) Append(ctx context.Context, entries []*Entry) error { return f(ctx, entries) }

// The cost of handing over an entry that is taken: one that is dropped costs less, so
// the buffer is emptied before it is full, while the clock stands.
func BenchmarkRecord(b *testing.B) {
	l, err := NewLog(appendFunc(func(context.Context, []*Entry) error { return nil }), LogConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	now := time.Now()
	for b.Loop() {
		if len(l.buffer) == cap(l.buffer) {
			b.StopTimer()
			if err := l.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		e := l.Entry()
		e.ID, e.Tenant, e.At = NewID(now), "acme", now
		l.Record(e)
	}
	if dropped := testutil.ToFloat64(l.metrics.dropped); dropped > 0 {
		b.Errorf("%v of %d entries were dropped", dropped, b.N)
	}
}
