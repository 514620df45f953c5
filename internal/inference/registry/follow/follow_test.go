package follow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/registry"
	"sluice/internal/inference/registry/cache"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// server notes what it is offered.
type server struct {
	mu      sync.Mutex
	offers  map[string][]serve.Offer
	calls   int
	refuses int64
}

func (s *server) Offer(_ context.Context, name string, offers []serve.Offer) map[int64]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offers == nil {
		s.offers = map[string][]serve.Offer{}
	}
	s.calls++
	s.offers[name] = offers
	if s.refuses != 0 {
		return map[int64]error{s.refuses: fault.New(fault.Invalid, "no")}
	}
	return nil
}

func (s *server) has(name string) (numbers []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.offers[name] {
		numbers = append(numbers, o.Number)
	}
	slices.Sort(numbers)
	return numbers
}

// deaf is a queue that cannot be read.
type deaf struct{ queue.Reader }

func (deaf) Bounds(context.Context, string) (queue.Bounds, error) {
	return queue.Bounds{}, errors.New("no queue")
}

func (deaf) Read(context.Context, queue.Read) iter.Seq2[queue.Message, error] { panic("unbounded") }

// bed is a registry in one process.
type bed struct {
	t       *testing.T
	ctx     context.Context
	service *registry.Service
	trials  *registry.Trials
	store   *repo.Store
	bucket  *memblob.Bucket
}

func newBed(t *testing.T, driver repo.Driver) *bed {
	t.Helper()
	b := &bed{t: t, store: repo.New(driver, repo.Config{}), bucket: memblob.New(memblob.Config{})}
	bus, err := cqrs.NewBus(b.store, cqrs.Config{})
	if err == nil {
		b.service, err = registry.New(b.store, bus, b.bucket, registry.Config{Retention: time.Hour})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.trials = b.service.NewTrials(func(context.Context, engine.Spec, *probe.Golden) (probe.Report, error) { return probe.Report{}, nil }, "r", "me")
	b.ctx = access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "ann", Permissions: access.SetOf(registry.Read, registry.Write)})
	return b
}

func (b *bed) source(name string, content []byte) registry.Source {
	b.t.Helper()
	sum := sha256.Sum256(content)
	s := registry.Source{Name: name, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(content)), Object: "acme/uploads/" + repo.RandomName()}
	if _, err := b.bucket.Put(b.ctx, s.Object, bytes.NewReader(content), blob.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// register makes a version ready.
func (b *bed) register(seed uint64) *registry.Version {
	b.t.Helper()
	v, _, err := b.service.Register(b.ctx, registry.Register{Model: "m", Sources: []registry.Source{
		b.source(registry.ModelFile, onnxtest.MLP(seed, 4, 3)), b.source(registry.ConfigYAML, fmt.Appendf(nil, "slo: %dms\n", seed)),
	}})
	if err == nil {
		err = b.trials.Round(b.ctx)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *bed) remove(number int64) {
	b.t.Helper()
	if _, err := cqrs.Send(b.ctx, b.service.Bus(), registry.Delete{Model: "m", Number: number, Expect: func(int64) error { return nil }}); err != nil {
		b.t.Fatal(err)
	}
}

func follower(t *testing.T, store *repo.Store, q queue.Reader, bucket blob.Reader, s Server) *Follower {
	t.Helper()
	c, err := cache.Open(t.TempDir(), 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f, err := New(store, q, bucket, c, s, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What one node commits it serves at once, others when the queue tells of it, and
// without a queue when the store is next asked.
func TestEveryNodeFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := memrepo.New(memrepo.Config{OneAggregate: true})
		if err := driver.Migrate(t.Context(), append(registry.Schemas(), repo.LeaseSchema())); err != nil {
			t.Fatal(err)
		}
		q, err := memqueue.New(memqueue.Config{})
		if err == nil {
			// All that commands publish: the relay rests where a message finds no stream.
			err = q.Ensure(t.Context(), queue.Stream{Name: "EVENTS", Subjects: []string{"events.>"}, Retention: queue.Limits, Discard: queue.Oldest},
				queue.Stream{Name: "AUDIT", Subjects: []string{"audit.>"}, Retention: queue.Limits, Discard: queue.Oldest})
		}
		if err != nil {
			t.Fatal(err)
		}
		b := newBed(t, driver)
		r, err := relay.New(b.store, q, relay.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 8)
		servers, run := map[string]*server{}, []func(context.Context) error{r.Run}
		for name, reader := range map[string]queue.Reader{"here": q, "there": q, "deaf": deaf{}} {
			store := repo.New(driver, repo.Config{})
			if name == "here" {
				store = b.store
			}
			servers[name] = &server{}
			run = append(run, follower(t, store, reader, b.bucket, servers[name]).Run)
		}
		for _, f := range run { // once all watch the store
			go func() { ended <- f(ctx) }()
		}
		time.Sleep(3 * time.Second) // whoever takes leases has them
		wait := func(name string, most time.Duration, want ...int64) {
			t.Helper()
			began := time.Now()
			for !slices.Equal(servers[name].has("m"), want) && time.Since(began) <= most {
				time.Sleep(time.Millisecond)
			}
			if got := servers[name].has("m"); !slices.Equal(got, want) {
				t.Errorf("%s serves %v after %s, want %v", name, got, time.Since(began), want)
			}
		}
		all := func(want ...int64) {
			t.Helper()
			wait("here", 10*time.Millisecond, want...)
			wait("there", time.Second, want...)
			wait("deaf", 6*time.Second, want...)
		}
		b.register(1)
		all(1)
		b.register(2)
		all(1, 2)
		b.remove(1)
		all(2)
		stop()
		for range len(servers) + 1 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// A version that cannot be described keeps no other back, and comes once it can.
// One that was deleted for good, and is back, is read from where it is now.
func TestWhatCannotBeDescribed(t *testing.T) {
	b := newBed(t, memrepo.New(memrepo.Config{OneAggregate: true}))
	s := &server{}
	f := follower(t, b.store, deaf{}, b.bucket, s)
	good, bad := b.register(1), b.register(2)
	config, _ := bad.File(registry.ConfigYAML)
	moved := config.Object + "-elsewhere"
	if _, err := b.bucket.Copy(b.ctx, config.Object, moved, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.bucket.Delete(b.ctx, config.Object); err != nil {
		t.Fatal(err)
	}
	if err := f.Refresh(b.ctx); err == nil || !slices.Equal(s.has("m"), []int64{good.Number}) {
		t.Errorf("%v, serves %v", err, s.has("m"))
	}
	if _, err := b.bucket.Copy(b.ctx, moved, config.Object, ""); err != nil {
		t.Fatal(err)
	}
	s.refuses = 2
	if err := f.Refresh(b.ctx); err == nil {
		t.Error("that the server refuses a version is not told")
	}
	s.refuses = 0
	if err := f.Refresh(b.ctx); err != nil || !slices.Equal(s.has("m"), []int64{1, 2}) {
		t.Errorf("%v, serves %v", err, s.has("m"))
	}
	calls := s.calls
	if err := f.Refresh(b.ctx); err != nil || s.calls != calls {
		t.Errorf("%v, offered %d times although nothing changed", err, s.calls-calls)
	}
	data, err := s.offers["m"][0].Read(b.ctx)
	if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != s.offers["m"][0].SHA256 || s.offers["m"][0].Config.SLO == 0 {
		t.Errorf("%v, %+v", err, s.offers["m"][0].Config)
	}
}

// A certificate that has ended, or a bucket that is away, takes nothing out of service
// when another version comes; a node that begins anew judges by the time of registration.
func TestWhatIsOfferedStays(t *testing.T) {
	b := newBed(t, memrepo.New(memrepo.Config{OneAggregate: true}))
	s, late := &server{}, &server{}
	f := follower(t, b.store, deaf{}, b.bucket, s)
	first := b.register(1)
	if err := f.Refresh(b.ctx); err != nil {
		t.Fatal(err)
	}
	f.cfg.Verify = func(_ string, _ time.Time, _ []byte, files map[string]string) error {
		if config, _ := first.File(registry.ConfigYAML); files[registry.ConfigYAML] == config.SHA256 {
			return fault.New(fault.Unprocessable, "it has ended")
		}
		return nil
	}
	b.register(2)
	if err := f.Refresh(b.ctx); err != nil || !slices.Equal(s.has("m"), []int64{1, 2}) {
		t.Errorf("%v, serves %v", err, s.has("m"))
	}
	anew := follower(t, b.store, deaf{}, b.bucket, late)
	end := b.store.Now()
	anew.cfg.Verify = func(_ string, registered time.Time, _ []byte, _ map[string]string) error {
		if registered.IsZero() || registered.After(end) {
			return fault.New(fault.Unprocessable, "it has ended")
		}
		return nil
	}
	if err := anew.Refresh(b.ctx); err != nil || !slices.Equal(late.has("m"), []int64{1, 2}) {
		t.Errorf("%v, serves %v", err, late.has("m"))
	}
}
