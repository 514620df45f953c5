package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// moody is a store whose commits fail as told: before they happen, or after,
// without anybody learning that they have.
type moody struct {
	repo.Driver
	fail atomic.Pointer[func() (before, after bool)]
}

func (m *moody) Commit(ctx context.Context, c *repo.Changeset) error {
	before, after := false, false
	if f := m.fail.Load(); f != nil {
		before, after = (*f)()
	}
	if before {
		return fault.New(fault.Unavailable, "away")
	}
	if err := m.Driver.Commit(ctx, c); err != nil || !after {
		return err
	}
	return repo.ErrOutcomeUnknown
}

func newStore() (*repo.Store, *moody) {
	d := &moody{Driver: memrepo.New(memrepo.Config{OneAggregate: true})}
	return repo.New(d, repo.Config{Now: func() time.Time { return noon }}), d
}

// total sums up everything of a tenant.
func total(t interface{ Fatal(...any) }, store *repo.Store, tenant string) (sum Amount) {
	for one, err := range Totals.All(context.Background(), store.Read(repo.Scope{Tenant: tenant}), spec.Query[Total]{}) {
		if err != nil {
			t.Fatal(err)
		}
		sum.Add(one.Used.Amount)
	}
	return sum
}

// delivery is what the queue brings of an entry.
func delivery(t interface{ Fatal(...any) }, tenant, name string, at time.Time, e Entry) queue.Delivery {
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	m, err := relay.Encode(&repo.Message{ID: "evt_" + name, Stream: streamUsage, Type: "usage.entry", Version: 1, Time: at, Data: data, Key: repo.Key{Tenant: tenant, Kind: "predictions", ID: name}})
	if err != nil {
		t.Fatal(err)
	}
	return queue.NewDelivery(m, 1, nil)
}

// Whatever comes twice, fails or is left in the dark, from several folders at
// once: what was handled is counted, once.
func TestEntriesCountOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, d := newStore()
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var mu sync.Mutex
		fail := func() (before, after bool) {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(5) == 0, random.IntN(5) == 0
		}
		d.fail.Store(&fail)
		want := map[string]Amount{}
		var deliveries []queue.Delivery
		for i := range rapid.IntRange(1, 40).Draw(t, "entries") {
			tenant := fmt.Sprint("t", i%2)
			e := Entry{What{Model: fmt.Sprint("m", i%3), Mode: Durable}, Amount{Requests: 1, Succeeded: 1, Rows: int64(i), ComputeUS: 7}}
			sum := want[tenant]
			sum.Add(e.Amount)
			want[tenant] = sum
			at := noon.Add(time.Duration(i) * time.Minute)
			for range rapid.IntRange(1, 3).Draw(t, "times") {
				deliveries = append(deliveries, delivery(t, tenant, fmt.Sprint("pred_", i), at, e))
			}
		}
		random.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		folders := []*Folder{NewFolder(store), NewFolder(store)}
		var all sync.WaitGroup
		for i, one := range deliveries {
			all.Go(func() {
				for try := range 1000 { // as the queue does
					if folders[(i+try)%2].handle(context.Background(), one) == nil {
						return
					}
				}
				t.Error("never handled")
			})
		}
		all.Wait()
		for _, f := range folders {
			f.commits.Wait()
			if len(f.waiting) != 0 {
				t.Errorf("%d totals still wait", len(f.waiting))
			}
		}
		for tenant, sum := range want {
			if got := total(t, store, tenant); got != sum {
				t.Errorf("%s: %+v, want %+v", tenant, got, sum)
			}
		}
	})
}

// Entries that come while a commit is under way share the next one.
func TestEntriesShareCommits(t *testing.T) {
	store, d := newStore()
	var commits atomic.Int64
	began, gate := make(chan struct{}, 10), make(chan struct{})
	slow := func() (bool, bool) { commits.Add(1); began <- struct{}{}; <-gate; return false, false }
	d.fail.Store(&slow)
	f := NewFolder(store)
	const n = 100
	e := Entry{What{"m", "1", Durable}, Amount{Requests: 1}}
	items := make([]*item, n)
	for i := range items {
		items[i] = &item{name: fmt.Sprint(i), at: noon, Entry: e, done: make(chan error, 1)}
		f.join(place{"acme", idOf(noon, e.What)}, items[i])
		if i == 0 {
			<-began // the others come while it is being committed
		}
	}
	close(gate)
	for _, i := range items {
		if err := <-i.done; err != nil {
			t.Error(err)
		}
	}
	f.commits.Wait()
	if got := total(t, store, "acme"); got.Requests != n || commits.Load() != 2 {
		t.Errorf("%d requests in %d commits", got.Requests, commits.Load())
	}
}

func TestMalformedEntryIsGivenUp(t *testing.T) {
	store, _ := newStore()
	f := NewFolder(store)
	bad := delivery(t, "acme", "pred_1", noon, Entry{})
	bad.Data = []byte(`{"id":"evt_pred_1","data":[]}`)
	if err := f.handle(t.Context(), bad); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	bad.Data = []byte(`{`)
	if err := f.handle(t.Context(), bad); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// What was counted online is written once, whatever the store answers; what a
// process that dies has not flushed is all that is lost.
func TestOnlineCountsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, d := newStore()
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		fail := func() (before, after bool) { return random.IntN(3) == 0, random.IntN(3) == 0 }
		d.fail.Store(&fail)
		var counted, open Amount // open: since the last flush that went well, at most
		var m *Meter
		start := func() {
			var err error
			if m, err = NewMeter(store, MeterConfig{}); err != nil {
				t.Fatal(err)
			}
		}
		start()
		lost := Amount{}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"count", "count", "count", "flush", "crash"}).Draw(t, "action") {
			case "count":
				e := Entry{What{Model: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "model"), Mode: Online}, Amount{Requests: 1, Succeeded: 1, Rows: 3}}
				m.Count("acme", noon.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "hours"))*time.Hour), e)
				counted.Add(e.Amount)
				open.Add(e.Amount)
			case "flush":
				if m.Flush(context.Background()) == nil {
					open = Amount{}
				}
			case "crash":
				lost.Add(open)
				open = Amount{}
				start()
			}
		}
		d.fail.Store(nil)
		if err := m.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := total(t, store, "acme")
		if got.Requests > counted.Requests || got.Requests < counted.Requests-lost.Requests || got.Rows != 3*got.Requests {
			t.Errorf("%+v of %+v, at most %+v lost", got, counted, lost)
		}
	})
}

func TestMeterIsBounded(t *testing.T) {
	store, _ := newStore()
	m, err := NewMeter(store, MeterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range most + 5 {
		m.Count("acme", noon, Entry{What{Model: fmt.Sprint(i), Mode: Online}, Amount{Requests: 1}})
	}
	if len(m.open) != most {
		t.Errorf("%d sums", len(m.open))
	}
}

func TestReport(t *testing.T) {
	store, _ := newStore()
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(Read)})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	Register(bus)
	n := 0
	put := func(tenant string, at time.Time, w What, requests int64) {
		n++
		if err := once(ctx, store, tenant, []string{fmt.Sprint(n)}, at, Entry{w, Amount{Requests: requests}}); err != nil {
			t.Fatal(err)
		}
	}
	put("acme", noon, What{"a", "1", Online}, 1)
	put("acme", noon.Add(59*time.Minute), What{"a", "1", Online}, 2)
	put("acme", noon.Add(time.Hour), What{"a", "2", Durable}, 4)
	put("acme", noon.Add(24*time.Hour), What{"b", "1", Online}, 8)
	put("acme", noon.Add(-time.Minute), What{"b", "1", Online}, 16)
	put("rival", noon, What{"a", "1", Online}, 32)
	for name, tc := range map[string]struct {
		q    Report
		want string
	}{
		"all":        {Report{From: noon, To: noon.Add(48 * time.Hour)}, "[{ / 15}]"},
		"first hour": {Report{From: noon, To: noon.Add(time.Hour)}, "[{ / 3}]"},
		"nothing":    {Report{From: noon.Add(-5 * time.Hour), To: noon.Add(-time.Hour)}, "[]"},
		"models":     {Report{From: noon, To: noon.Add(48 * time.Hour), By: By{Model: true, Mode: true}}, "[{ a/durable 4} { a/online 3} { b/online 8}]"},
		"hours":      {Report{From: noon.Add(-time.Hour), To: noon.Add(2 * time.Hour), By: By{Hour: true}}, "[{11 / 16} {12 / 3} {13 / 4}]"},
		"days":       {Report{From: noon.Add(-time.Hour), To: noon.Add(48 * time.Hour), By: By{Day: true}}, "[{0 / 23} {0 / 8}]"},
	} {
		groups, err := cqrs.Ask(ctx, bus, tc.q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, g := range groups {
			hour := ""
			if !g.Start.IsZero() {
				hour = fmt.Sprint(g.Start.Hour())
			}
			got = append(got, fmt.Sprintf("{%s %s/%s %d}", hour, g.Model, g.Mode, g.Requests))
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
	for name, q := range map[string]Report{
		"nothing at all": {}, "backwards": {From: noon, To: noon.Add(-time.Hour)}, "too long": {From: noon, To: noon.Add(Keep + time.Hour)}, "no whole hour": {From: noon.Add(time.Minute), To: noon.Add(time.Hour)},
	} {
		if _, err := cqrs.Ask(ctx, bus, q); fault.CodeOf(err) != "usage_range_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	all := Report{From: noon, To: noon.Add(48 * time.Hour), By: By{Hour: true, Model: true}}
	for _, limits := range [][2]int{{2, 100}, {100, 2}} {
		if _, err := report(ctx, store.Read(repo.Scope{Tenant: "acme"}), all, limits[0], limits[1]); fault.CodeOf(err) != "usage_report_too_large" {
			t.Errorf("%v: %v", limits, err)
		}
	}
	if _, err := cqrs.Ask(access.With(t.Context(), &access.Principal{Tenant: "acme"}), bus, all); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("without permission: %v", err)
	}
	if err := once(ctx, store, "acme", []string{"1"}, noon, Entry{}); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("again: %v", err)
	}
}
