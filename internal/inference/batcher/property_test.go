package batcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// item is what a planned task does, and what became of it.
type item struct {
	id       int
	rows     int
	bucket   uint64
	class    Class
	priority int
	tenant   string
	arrive   time.Duration
	deadline time.Duration // after arrival; 0: none
	cancel   time.Duration // after arrival; 0: never
	fails    bool          // the RunFunc sets Err on it

	answer   int
	runs     int
	fate     fate // of its last run
	yielded  bool // a run of it was told to end
	returned bool
}

// fate is how a run ends.
type fate int

const (
	works fate = iota
	errs
	panics
	exits // runtime.Goexit is not drawn: it would end the submitter
)

// world runs planned tasks through a real batcher and checks what no schedule
// may break.
type world struct {
	cfg    Config
	items  []*item
	fates  []fate
	length []time.Duration

	mu       sync.Mutex
	runs     int
	inFlight int
	problems []string
}

var errOfRun, errOfTask = errors.New("the run failed"), errors.New("the task failed")

func (w *world) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *world) run(ctx context.Context, batch []*Task[*item]) error {
	w.mu.Lock()
	end := w.fates[w.runs%len(w.fates)]
	took := w.length[w.runs%len(w.length)]
	w.runs++
	w.inFlight++
	inFlight := w.inFlight
	w.mu.Unlock()
	if inFlight > w.cfg.Executors {
		w.problem("%d runs at a time, at most %d allowed", inFlight, w.cfg.Executors)
	}
	rows := 0
	for _, t := range batch {
		rows += t.Rows
		w.mu.Lock()
		t.Value.runs++
		t.Value.fate = end
		dead := t.Value.returned
		w.mu.Unlock()
		if dead {
			w.problem("task %d runs after its Submit has returned", t.Value.id)
		}
		if t.Bucket != batch[0].Bucket {
			w.problem("buckets %d and %d in one run", t.Bucket, batch[0].Bucket)
		}
	}
	if rows > w.cfg.MaxRows {
		w.problem("%d rows in a run, at most %d allowed", rows, w.cfg.MaxRows)
	}
	if len(batch) == 0 || w.cfg.Solo && len(batch) > 1 {
		w.problem("%d tasks in a run", len(batch))
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		end = errs
	}
	w.mu.Lock()
	for _, t := range batch {
		t.Value.yielded = t.Value.yielded || ctx.Err() != nil
	}
	w.inFlight--
	w.mu.Unlock()
	for _, t := range batch {
		if t.Value.answer = t.Value.id; t.Value.fails {
			t.Err = errOfTask
		}
	}
	switch end {
	case errs:
		w.mu.Lock()
		for _, t := range batch {
			t.Value.fate = errs
		}
		w.mu.Unlock()
		return errOfRun
	case panics:
		panic("the model broke")
	}
	return nil
}

// submit is one caller.
func (w *world) submit(b *Batcher[*item], it *item) {
	time.Sleep(it.arrive)
	ctx := context.Background()
	if it.cancel > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, it.cancel)
		defer stop()
		// A cancellation, and not a deadline that the batcher can see coming.
		var cancel context.CancelFunc
		parent := ctx
		ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		defer context.AfterFunc(parent, cancel)()
	}
	t := &Task[*item]{Value: it, Rows: it.rows, Bucket: it.bucket, Class: it.class, Priority: it.priority, Tenant: it.tenant}
	start := time.Now()
	if it.deadline > 0 {
		t.Deadline = start.Add(it.deadline)
	}
	timing, err := b.Submit(ctx, t)
	took := time.Since(start)
	w.mu.Lock()
	it.returned = true
	w.mu.Unlock()
	w.check(it, t, timing, err, took, ctx.Err() != nil)
}

func (w *world) check(it *item, t *Task[*item], timing Timing, err error, took time.Duration, cancelled bool) {
	if t.bucket != nil || t.run != nil || t.prev != nil || t.next != nil || len(t.wake) != 0 {
		w.problem("task %d: the batcher still knows it", it.id)
	}
	if it.runs > 1 && !it.yielded || it.runs > 1+maxInterruptions {
		w.problem("task %d ran %d times", it.id, it.runs)
	}
	if it.runs == 0 || it.yielded && timing == (Timing{}) {
		w.checkRefusal(it, err, took, cancelled)
		return
	}
	want := map[fate]error{errs: errOfRun}[it.fate]
	if it.fails && it.fate != panics {
		want = errOfTask
	}
	switch {
	case it.fate == panics && !cancelled:
		if fault.Of(err).Kind != fault.Internal {
			w.problem("task %d: its run panicked, outcome %v", it.id, err)
		}
	case err != nil && cancelled && errors.Is(err, context.Canceled):
	case !errors.Is(err, want) || (err == nil) != (want == nil):
		w.problem("task %d: outcome %v, want %v", it.id, err, want)
	case it.answer != it.id:
		w.problem("task %d: got answer %d", it.id, it.answer)
	}
	if timing.Queue < 0 || timing.Run < 0 || timing.Queue+timing.Run > took || timing.Rows < it.rows {
		w.problem("task %d: timing %+v of %v", it.id, timing, took)
	}
}

func (w *world) checkRefusal(it *item, err error, took time.Duration, cancelled bool) {
	if err == nil {
		w.problem("task %d: answered without a run", it.id)
		return
	}
	code := fault.CodeOf(err)
	switch {
	case code == CodeDraining || it.rows > w.cfg.MaxRows && fault.Is(err, fault.Invalid):
	case cancelled && fault.Is(err, fault.Canceled):
		if took > it.cancel {
			w.problem("task %d: left the queue %v after it was cancelled", it.id, took-it.cancel)
		}
	case it.class == Bulk:
		w.problem("bulk task %d was refused: %v", it.id, err)
	case code == CodeQueueFull || code == CodeOverloaded || code == CodeTimeout:
		if !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter < time.Millisecond {
			w.problem("task %d: refusal without kind or hint: %#v", it.id, err)
		}
		limit := w.limit(it)
		if took > limit {
			w.problem("task %d: refused after %v, its deadline was %v: %v", it.id, took, limit, err)
		}
	default:
		w.problem("task %d: refused with %v", it.id, err)
	}
}

// limit returns how long after its arrival a task may still be refused.
func (w *world) limit(it *item) time.Duration {
	own := it.deadline
	if own == 0 {
		own = never
	}
	switch x := w.cfg.Explicit; {
	case x == nil || !x.timeouts():
		return min(own, w.cfg.SLO)
	case x.TimeoutDelay || x.DefaultTimeout == 0 && !x.AllowTimeoutOverride:
		return never
	case x.DefaultTimeout == 0:
		return own
	case x.AllowTimeoutOverride:
		return min(own, x.DefaultTimeout)
	default:
		return x.DefaultTimeout
	}
}

func drawWorld(t *rapid.T) *world {
	ms := func(label string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most*10).Draw(t, label)) * time.Millisecond / 10
	}
	w := &world{cfg: Config{
		MaxRows:   rapid.IntRange(1, 16).Draw(t, "max rows"),
		SLO:       max(ms("slo", 50), time.Millisecond),
		Executors: rapid.IntRange(1, 4).Draw(t, "executors"),
		MaxQueue:  rapid.SampledFrom([]int{0, 1, 5}).Draw(t, "max queue"),
		Solo:      rapid.IntRange(0, 4).Draw(t, "solo") == 0,
	}}
	if rapid.Bool().Draw(t, "seeded") {
		w.cfg.Cost = NewCost(w.cfg.MaxRows, w.cfg.Executors)
		base, row := ms("base", 10), ms("row", 3)
		for n := 1; n <= w.cfg.MaxRows; n++ {
			w.cfg.Cost.Seed(n, 0, base+time.Duration(n)*row)
			w.cfg.Cost.Seed(n, 1, 2*base+time.Duration(n)*row)
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "explicit") == 0 {
		levels := rapid.IntRange(0, 3).Draw(t, "levels")
		w.cfg.Explicit = &Explicit{
			MaxQueueDelay:        ms("delay", 5),
			DefaultTimeout:       ms("timeout", 5) * 4,
			AllowTimeoutOverride: rapid.Bool().Draw(t, "override"),
			TimeoutDelay:         rapid.Bool().Draw(t, "timeout delay"),
			PriorityLevels:       levels,
			PreserveOrdering:     rapid.Bool().Draw(t, "ordered"),
		}
		if rapid.Bool().Draw(t, "preferred") {
			w.cfg.Explicit.PreferredSizes = []int{rapid.IntRange(1, w.cfg.MaxRows).Draw(t, "size")}
		}
	}
	for range rapid.IntRange(1, 4).Draw(t, "fates") {
		w.fates = append(w.fates, rapid.SampledFrom([]fate{works, works, works, errs, panics}).Draw(t, "fate"))
		w.length = append(w.length, ms("length", 12))
	}
	tasks := rapid.IntRange(1, 60).Draw(t, "tasks")
	for id := 1; id <= tasks; id++ {
		it := &item{
			id: id, rows: rapid.IntRange(0, w.cfg.MaxRows+1).Draw(t, "rows"),
			bucket:   uint64(rapid.IntRange(0, 2).Draw(t, "bucket")),
			class:    rapid.SampledFrom([]Class{Online, Online, Online, Bulk}).Draw(t, "class"),
			priority: rapid.IntRange(0, 4).Draw(t, "priority"),
			tenant:   rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "tenant"),
			arrive:   ms("arrive", 40),
			fails:    rapid.IntRange(0, 5).Draw(t, "fails") == 0,
		}
		if rapid.IntRange(0, 3).Draw(t, "has deadline") == 0 {
			it.deadline = ms("deadline", 30)
		}
		if rapid.IntRange(0, 3).Draw(t, "has cancel") == 0 {
			it.cancel = ms("cancel", 30)
		}
		w.items = append(w.items, it)
	}
	return w
}

// TestEveryTaskSettlesOnce draws worlds of random sizes, buckets, deadlines,
// cancellations, failures, panics and settings, with a drain in the midst.
func TestEveryTaskSettlesOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		drainAt := time.Duration(rapid.IntRange(0, 80).Draw(rt, "drain at")) * time.Millisecond
		synctest.Test(t, func(*testing.T) { w.play(drainAt) })
		if len(w.problems) > 0 {
			rt.Fatalf("%q", w.problems)
		}
	})
}

func (w *world) play(drainAt time.Duration) {
	b, err := New(w.run, w.cfg)
	if err != nil {
		w.problem("New: %v", err)
		return
	}
	var wg sync.WaitGroup
	for _, it := range w.items {
		wg.Go(func() { w.submit(b, it) })
	}
	time.Sleep(drainAt)
	if err := b.Drain(context.Background()); err != nil {
		w.problem("Drain: %v", err)
	}
	if n := b.Stats().Pending; n != 0 {
		w.problem("drained with %d tasks pending", n)
	}
	wg.Wait()
	w.checkEmpty(b)
}

// checkEmpty checks that nothing is left behind in a drained batcher.
func (w *world) checkEmpty(b *Batcher[*item]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.online.tasks+b.online.rows+b.bulk.tasks+b.bulk.rows+len(b.online.active)+len(b.bulk.active) != 0 {
		w.problem("the queues are not empty")
	}
	if b.byDue.len() != 0 || b.leader != nil || len(b.runs) != 0 || b.rows != 0 {
		w.problem("a run or a leader is left")
	}
	if b.demand.total != 0 || b.demand.work != [demandSlots]time.Duration{} {
		w.problem("demand of %v is left", b.demand.total)
	}
	for name, tn := range b.tenants.byName {
		if tn.work != 0 || tn.first != nil || tn.last != nil {
			w.problem("tenant %q is left with %v", name, tn.work)
		}
	}
}
