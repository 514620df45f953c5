package record

import (
	"context"
	"errors"
	"strconv"
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
	e.Code = strconv.Itoa(code)
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
		for i := range 100 {
			l.note(i)
		}
		time.Sleep(time.Second) // the log takes its first batch, which hangs
		for i := range 5 {
			l.note(i)
		}
		if got := testutil.ToFloat64(l.metrics.dropped); got != 90 {
			t.Errorf("%v entries were dropped, want 90 of 105", got)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("recording took %s of the test", took)
		}
		close(hang)
		time.Sleep(time.Second)
		stop()
		running.Wait()
		if got := testutil.ToFloat64(l.metrics.appended); got != 15 {
			t.Errorf("%v entries were appended, want 15", got)
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

type appendFunc func(context.Context, []*Entry) error

func (f appendFunc) Append(ctx context.Context, entries []*Entry) error { return f(ctx, entries) }

func BenchmarkRecord(b *testing.B) {
	l, err := NewLog(appendFunc(func(context.Context, []*Entry) error { return nil }), LogConfig{Interval: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		now := time.Now()
		for p.Next() {
			e := l.Entry()
			e.ID = NewID(now)
			l.Record(e)
		}
	})
	stop()
	running.Wait()
	b.ReportMetric(testutil.ToFloat64(l.metrics.dropped)/float64(b.N), "dropped/op")
}
