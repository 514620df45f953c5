package evaluation

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

const content access.Permission = "prediction_log:content"

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bed is a service whose clock stands, over a log and versions of the test's own.
type bed struct {
	*Service
	mu     sync.Mutex
	now    time.Time
	left   int // writes that the process lives for; negative is for ever
	dead   bool
	log    entries
	models versions
	ctx    context.Context
}

func (b *bed) time() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bed) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// lives has the process die after so many writes more.
func (b *bed) lives(writes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.dead = writes, false
}

var errDead = fault.New(fault.Unavailable, "the process is dead")

// write does what a living process does; the last write is done, and nobody learns it.
func (b *bed) write(do func() error) error {
	b.mu.Lock()
	dead := b.dead
	b.mu.Unlock()
	if dead {
		return errDead
	}
	err := do()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left--; b.left == 0 {
		b.dead = true
		return errDead
	}
	return err
}

// bucket and driver are as mortal as the bed's process.
type bucket struct {
	*memblob.Bucket
	bed *bed
}

func (m bucket) Put(ctx context.Context, key string, body io.Reader, o blob.PutOptions) (info blob.Info, err error) {
	return info, m.bed.write(func() (err error) { info, err = m.Bucket.Put(ctx, key, body, o); return err })
}

type driver struct {
	repo.Driver
	bed *bed
}

func (d driver) Commit(ctx context.Context, c *repo.Changeset) error {
	return d.bed.write(func() error { return d.Driver.Commit(ctx, c) })
}

func newBed(t testing.TB, log entries) *bed {
	t.Helper()
	b := &bed{now: begin.Add(time.Hour), left: -1, log: log, models: versions{}}
	store := repo.New(driver{memrepo.New(memrepo.Config{OneAggregate: true}), b}, repo.Config{Now: b.time})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Service, err = New(store, bus, bucket{memblob.New(memblob.Config{Now: b.time}), b}, b.models, b.log, nil, Config{Content: content}); err != nil {
		t.Fatal(err)
	}
	b.beat, b.chunk = time.Hour, 8 // nobody is slow here
	b.ctx = as(context.Background(), Read, Write, content)
	return b
}

func as(ctx context.Context, permissions ...access.Permission) context.Context {
	return access.With(ctx, &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(permissions...)})
}

// start asks for an evaluation of all that is logged, and leaves it to the test to run it.
func (b *bed) start(t testing.TB, in Start) *Evaluation {
	t.Helper()
	in.Model = "m"
	in.Logged = &Logged{From: begin, To: begin.Add(time.Hour), Sample: 1}
	e, err := b.Start(b.ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run is what a worker does that is told of an evaluation. That the store fails is the test's
// own doing.
func (b *bed) run(id ID) {
	_ = b.attemptAt(context.Background(), repo.Scope{Tenant: "acme", Actor: "system"}, id, func(context.Context) error { return nil })
}

func (b *bed) find(t testing.TB, id ID) *Evaluation {
	t.Helper()
	e, err := b.Find(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// diff is the file of differences, from an offset on.
func (b *bed) diff(t testing.TB, id ID, offset int64) []byte {
	t.Helper()
	_, open, err := b.Differences(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := open(b.ctx, offset, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// versions answer by functions of a row's numbers.
type versions map[string]func(x []float32) ([]float32, error)

// same answers what it is asked.
func same(x []float32) ([]float32, error) { return x, nil }

func (v versions) Find(_, name string) (*Served, error) {
	if v[name] == nil {
		return nil, fault.New(fault.NotFound, "no such version").WithCode("version_not_found")
	}
	port := func(name string) []model.Port {
		return []model.Port{{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2}}}
	}
	return &Served{Version: Version{name, "digest-" + name}, Inputs: port("x"), Outputs: port("y")}, nil
}

func (v versions) Ask(_ context.Context, q Question) (a Answer, err error) {
	rows := floatsOf(&q.Inputs[0])
	var out []float32
	for row := range slices.Chunk(rows, 2) {
		y, err := v[q.Version.Number](row)
		if err != nil {
			return a, err
		}
		out = append(out, y...)
	}
	return Answer{Outputs: []tensor.Tensor{floats("y", out)}, Took: time.Millisecond, Used: usage.Amount{Rows: int64(len(rows) / 2)}}, nil
}

// floats is a tensor of rows of two numbers.
func floats(name string, x []float32) tensor.Tensor {
	t := tensor.Tensor{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{int64(len(x) / 2), 2}}
	for _, f := range x {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(f))
	}
	return t
}

func floatsOf(t *tensor.Tensor) (x []float32) {
	for b := t.Data; len(b) > 0; b = b[4:] {
		x = append(x, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return x
}

// entries are a log, in the order of their places.
type entries []record.Entry

// Find implements Log.
func (l entries) Find(_ context.Context, q record.Query) (page []record.Entry, _ error) {
	for _, e := range l {
		after := q.After.IsZero() || e.At.After(q.After.At) || e.At.Equal(q.After.At) && bytes.Compare(e.ID[:], q.After.ID[:]) > 0
		if after && !e.At.Before(q.From) && e.At.Before(q.To) && (q.Arm == "" || q.Arm == e.Arm) && len(page) < q.Limit {
			page = append(page, e)
		}
	}
	return page, nil
}

// logOf is a log of predictions, each of which has some rows of two numbers; answers are
// those of a version that gives back what it is asked.
func logOf(predictions ...[]float32) entries {
	var log entries
	for i, x := range predictions {
		e := record.Entry{At: begin.Add(time.Duration(i) * time.Millisecond), Model: "m", Version: "1", Tenant: "acme", Rows: len(x) / 2, Choice: record.Choice{Experiment: "exp", Arm: "arm" + strconv.Itoa(i%2)}}
		binary.BigEndian.PutUint64(e.ID[:], uint64(i+1))
		e.Latency.Infer = 2 * time.Millisecond
		in, out := floats("x", x), floats("y", x)
		e.Content = record.AppendTensor(record.AppendTensor(nil, record.Input, &in), record.Output, &out)
		log = append(log, e)
	}
	return log
}
