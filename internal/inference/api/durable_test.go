package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
)

// counted is a driver that counts what is read.
type counted struct {
	repo.Driver
	gets, commits atomic.Int64
}

func (c *counted) Commit(ctx context.Context, s *repo.Changeset) error {
	c.commits.Add(1)
	return c.Driver.Commit(ctx, s)
}

func (c *counted) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	c.gets.Add(1)
	return c.Driver.Get(ctx, key)
}

// inline keeps payloads in line, and counts how many are read and kept.
type inline struct{ loads, saves atomic.Int64 }

func (l *inline) Load(_ context.Context, p job.Payload) ([]byte, error) {
	l.loads.Add(1)
	return p.Inline, nil
}

func (l *inline) Save(_ context.Context, _ job.Owner, m job.Message) (job.Payload, error) {
	l.saves.Add(1)
	return job.Payload{Inline: m.Body}, nil
}

func (*inline) Drop(context.Context, job.Payload) {}

func (*inline) Open(context.Context, job.Payload, int64, int64) (io.ReadCloser, error) {
	return nil, errors.New("nobody streams here")
}

// limit refuses where an error is set.
type limit struct{ err error }

func (l *limit) Admit(string) error { return l.err }

type bench struct {
	*API
	limit    limit
	store    *repo.Store
	driver   *counted
	payloads *inline
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{driver: &counted{Driver: memrepo.New(memrepo.Config{})}, payloads: &inline{}}
	b.store = repo.New(b.driver, repo.Config{})
	bus, err := cqrs.NewBus(b.store, cqrs.Config{Origin: func(ctx context.Context) (o cqrs.Origin) {
		o.Operation, _ = uuid.Parse(web.OperationID(ctx))
		return o
	}})
	if err != nil {
		t.Fatal(err)
	}
	job.Register(bus, job.Config{})
	b.API = New(nil, nil, b.store, bus, b.payloads, &b.limit, Config{Overdue: job.NewReconciler(b.store, job.Config{})})
	return b
}

func as(ctx context.Context, subject string, permissions ...access.Permission) context.Context {
	return access.With(ctx, &access.Principal{Tenant: "acme", Subject: subject, Permissions: access.SetOf(permissions...)})
}

func (b *bench) submitted(ctx context.Context, t *testing.T, wait time.Duration) Prediction {
	t.Helper()
	o, err := b.submit(ctx, "/v1", job.Submit{Model: "m"}, []byte(`{"inputs":[]}`), wait)
	if err != nil {
		t.Fatal(err)
	}
	return o.Body
}

// succeed ends a prediction as a worker does.
func (b *bench) succeed(t *testing.T, id string) {
	t.Helper()
	err := b.store.Do(t.Context(), repo.Scope{Tenant: "acme", Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := job.Predictions.Update(ctx, tx, job.ID(id), func(p *job.Prediction) error {
			timing := job.Timing{Lease: time.Minute, Notice: time.Minute, Keep: time.Hour, Attempts: 1}
			if _, err := p.Start("w", "1", tx.Now(), timing); err != nil {
				return err
			}
			return p.Succeed(1, job.Payload{Inline: []byte(`{"outputs":[1]}`)}, "1", "d", job.Metrics{}, tx.Now(), timing)
		})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Who may have predictions made may wait for the end of their own, and of no
// other's.
func TestWaitingNeedsNoRightToRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx := as(t.Context(), "key_1", job.Run)
		first := b.submitted(ctx, t, time.Second)
		if first.Status != "queued" {
			t.Errorf("got %+v", first)
		}
		for who, want := range map[string]error{"key_1": nil, "key_2": repo.ErrNotFound} {
			if _, err := cqrs.Ask(as(t.Context(), who, job.Run), b.bus, job.Follow{ID: job.ID(first.ID)}); !errors.Is(err, want) {
				t.Errorf("%s: %v", who, err)
			}
		}
		if _, err := b.get(ctx, "/v1", &getIn{ID: first.ID}); !fault.Is(err, fault.PermissionDenied) {
			t.Errorf("reading: %v", err)
		}
	})
}

// Many may wait for long: each is woken at once, and otherwise looks seldom.
func TestWaitingLooksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx := as(t.Context(), "key_1", job.Run, job.Read)
		p := b.submitted(ctx, t, 0)
		b.driver.gets.Store(0)
		began := time.Now()
		go func() { time.Sleep(oip.MaxWait - time.Second); b.succeed(t, p.ID) }()
		o, err := b.get(ctx, "/v1", &getIn{ID: p.ID, Wait: int(oip.MaxWait.Seconds())})
		if err != nil || o.Body.Status != "succeeded" || string(o.Body.Output) != `{"outputs":[1]}` || time.Since(began) != oip.MaxWait-time.Second {
			t.Errorf("after %s: %+v, %v", time.Since(began), o, err)
		}
		if n := b.driver.gets.Load(); n > 40 {
			t.Errorf("read %d times", n)
		}
		if len(b.waiting.by) != 0 {
			t.Errorf("%d still wait", len(b.waiting.by))
		}
	})
}

// A list shows no outputs, and so reads none.
func TestListReadsNoOutputs(t *testing.T) {
	b := newBench(t)
	ctx := as(t.Context(), "key_1", job.Run, job.Read)
	for i := range 3 {
		p := b.submitted(ctx, t, 0)
		if i > 0 {
			b.succeed(t, p.ID)
		}
	}
	l, err := b.list(ctx, "/v1", &listIn{PageQuery: api.PageQuery{Limit: 10}, Status: "succeeded", Model: "m"})
	if err != nil || len(l.Body.Data) != 2 || b.payloads.loads.Load() != 0 {
		t.Fatalf("%+v, %v, %d outputs were read", l, err, b.payloads.loads.Load())
	}
	for _, v := range l.Body.Data {
		if v.Output != nil || v.Metrics == nil || v.URLs.Self != fmt.Sprintf("/v1/predictions/%s", v.ID) {
			t.Errorf("got %+v", v)
		}
	}
}

// Of what is refused nothing is kept, neither its input nor a trace in the store.
func TestRefusedLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.limit.err = fault.New(fault.Unavailable, "full").WithCode("predictions_full").WithRetryAfter(3 * time.Second)
	ctx := as(web.WithOperationID(t.Context(), uuid.NewString()), "key_1", job.Run)
	_, err := b.submit(ctx, "/v1", job.Submit{Model: "m"}, []byte(`{"inputs":[]}`), 0)
	if f := fault.Of(err); f.Code != "predictions_full" || f.RetryAfter != 3*time.Second {
		t.Errorf("got %v", err)
	}
	if b.driver.commits.Load() != 0 || b.payloads.saves.Load() != 0 {
		t.Errorf("%d commits, %d inputs", b.driver.commits.Load(), b.payloads.saves.Load())
	}
	b.limit.err = nil // the same operation can be done later
	b.submitted(ctx, t, 0)
}

// What was accepted is not refused when it is sent again.
func TestAcceptedIsNotRefusedLater(t *testing.T) {
	b := newBench(t)
	ctx := as(web.WithOperationID(t.Context(), uuid.NewString()), "key_1", job.Run)
	first := b.submitted(ctx, t, 0)
	b.limit.err = fault.New(fault.Unavailable, "full")
	if again := b.submitted(ctx, t, 0); again.ID != first.ID {
		t.Errorf("accepted %s, and then %s", first.ID, again.ID)
	}
	b.limit.err = nil
	if again := b.submitted(ctx, t, 0); again.ID != first.ID {
		t.Errorf("accepted %s, and then %s", first.ID, again.ID)
	}
}

// Nobody is told that a prediction waits whose deadline has passed: it has expired,
// whether or not there is a worker, and who waits is told at once.
func TestDeadlinesAreHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx := as(t.Context(), "key_1", job.Run, job.Read)
		soon := func() string {
			t.Helper()
			o, err := b.submit(ctx, "/v1", job.Submit{Model: "m", Deadline: time.Now().Add(time.Second)}, []byte(`{"inputs":[]}`), 0)
			if err != nil {
				t.Fatal(err)
			}
			return o.Body.ID
		}
		read, listed, cancelled := soon(), soon(), soon()
		soon()
		soon()
		began := time.Now()
		o, err := b.submit(ctx, "/v1", job.Submit{Model: "m", Deadline: began.Add(time.Second)}, []byte(`{"inputs":[]}`), oip.MaxWait)
		if err != nil || o.Body.Status != "expired" || o.Status != 200 || o.Body.StartedAt != nil || time.Since(began) != time.Second {
			t.Errorf("waited: after %s %+v, %v", time.Since(began), o, err)
		}
		if o, err = b.get(ctx, "/v1", &getIn{ID: read}); err != nil || o.Body.Status != "expired" || o.RetryAfter != "" {
			t.Errorf("read: %+v, %v", o, err)
		}
		if o, err = b.cancel(ctx, "/v1", &idIn{ID: cancelled}); err != nil || o.Body.Status != "expired" {
			t.Errorf("cancelled: %+v, %v", o, err)
		}
		page := api.PageQuery{Limit: 10}
		for _, asked := range []struct {
			status      string
			limit, want int
		}{{"queued", 1, 0}, {"queued", 10, 0}, {"expired", 10, 6}} { // of two more the second takes the first's place
			page.Limit = asked.limit
			if l, err := b.list(ctx, "/v1", &listIn{PageQuery: page, Status: asked.status}); err != nil || len(l.Body.Data) != asked.want {
				t.Errorf("%s, %d: %+v, %v", asked.status, asked.limit, l, err)
			}
		}
		if o, err = b.get(ctx, "/v1", &getIn{ID: listed, Wait: 60}); err != nil || o.Body.Status != "expired" || time.Since(began) != time.Second {
			t.Errorf("listed: %+v, %v", o, err)
		}
	})
}
