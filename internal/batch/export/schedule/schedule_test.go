package schedule

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

// fragile is a store whose commits fail after so many, once they are done or before.
type fragile struct {
	repo.Driver
	left atomic.Int64
	done bool
	away bool // it cannot be read
}

func (f *fragile) Commit(ctx context.Context, c *repo.Changeset) error {
	if f.left.Add(-1) != 0 {
		return f.Driver.Commit(ctx, c)
	}
	if f.done {
		_ = f.Driver.Commit(ctx, c) // nobody learns it
	}
	return fault.New(fault.Unavailable, "the store is gone")
}

func (f *fragile) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	if f.away {
		return repo.Record{}, fault.New(fault.Unavailable, "the store is gone")
	}
	return f.Driver.Get(ctx, key)
}

type empty struct{}

func (empty) Schema() table.Schema                     { return things }
func (empty) Read(context.Context, *table.Chunk) error { return io.EOF }
func (empty) Seen() int64                              { return 0 }
func (empty) Count(context.Context) (int64, error)     { return 0, nil }

var things = table.Schema{{Name: "at", Type: table.Time}}

// bed is schedules whose clock stands, of owners who may what may says.
type bed struct {
	*Service
	now   time.Time
	store *repo.Store
	disk  *fragile
	ctx   context.Context
	may   []access.Permission
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{now: at(t, "2026-01-01T12:00:30Z"), may: []access.Permission{export.Read, export.Write, "things:read"}, disk: &fragile{Driver: memrepo.New(memrepo.Config{OneAggregate: true})}}
	b.store = repo.New(b.disk, repo.Config{Now: func() time.Time { return b.now }})
	bus, err := cqrs.NewBus(b.store, cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	exports, err := export.New(b.store, bus, memblob.New(memblob.Config{}), []*export.Dataset{{Name: "things", About: "Things.", Permission: "things:read", Schema: things, Time: "at",
		Open: func(context.Context, string, export.Slice) (export.Scan, error) { return empty{}, nil }}}, export.Config{MaxActive: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if b.Service, err = New(b.store, bus, exports, b, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.ctx, _ = b.as(t.Context())
	return b
}

func (b *bed) as(ctx context.Context) (context.Context, *access.Principal) {
	p := &access.Principal{Tenant: "acme", Subject: "key_1", Kind: access.KindAPIKey, Method: access.MethodAPIKey, Credential: "key_1", Permissions: access.SetOf(b.may...)}
	return access.With(ctx, p), p
}

// Principal implements Owners.
func (b *bed) Principal(ctx context.Context, tenant string, o Owner) (*access.Principal, error) {
	if tenant != "acme" || o.Credential != "key_1" || len(b.may) == 0 {
		return nil, fault.New(fault.PermissionDenied, "gone").WithCode("schedule_owner")
	}
	_, p := b.as(ctx)
	return p, nil
}

func (b *bed) plan(p Plan) Plan {
	p.Request = export.Request{Dataset: "things", Format: encode.CSV}
	return p
}

func (b *bed) create(t testing.TB, p Plan) *Schedule {
	t.Helper()
	x, err := b.Create(b.ctx, b.plan(p))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// at has the clock show a time, and schedules looked after.
func (b *bed) at(t testing.TB, text string) {
	t.Helper()
	b.now = at(t, text)
	if err := b.Look(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) find(t testing.TB, id ID) *Schedule {
	t.Helper()
	x, err := b.Find(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// made are the exports there are, by their snapshots.
func (b *bed) made(t testing.TB) (all []export.Export) {
	t.Helper()
	for e, err := range export.Exports.All(t.Context(), b.store.Read(repo.Scope{Tenant: "acme"}), spec.Query[export.Export]{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (b *bed) end(t testing.TB, id export.ID) {
	t.Helper()
	err := b.store.Do(t.Context(), repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := export.Exports.Update(ctx, tx, id, func(e *export.Export) error { e.Cancel(tx.Now(), 24*time.Hour); return nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each time has its export, with the time as its snapshot and the window before it.
func TestSchedule(t *testing.T) {
	b := newBed(t)
	x := b.create(t, Plan{Name: "daily", Cron: "0 6 * * *", Window: true, Overlap: Along})
	if got := x.Upcoming(2); len(got) != 2 || !got[0].Equal(at(t, "2026-01-02T06:00:00Z")) || !got[1].Equal(at(t, "2026-01-03T06:00:00Z")) {
		t.Error(got)
	}
	b.at(t, "2026-01-02T05:59:59Z")
	if n := len(b.made(t)); n != 0 {
		t.Errorf("%d exports before the time", n)
	}
	b.at(t, "2026-01-02T06:00:03Z")
	b.at(t, "2026-01-02T06:00:08Z")
	b.at(t, "2026-01-03T06:00:01Z")
	all := b.made(t)
	if len(all) != 2 {
		t.Fatalf("%d exports", len(all))
	}
	for i, want := range []string{"2026-01-02T06:00:00Z", "2026-01-03T06:00:00Z"} {
		r := all[i].Request
		if !r.AsOf.Equal(at(t, want)) || !r.To.Equal(r.AsOf) || !r.From.Equal(r.AsOf.AddDate(0, 0, -1)) || all[i].Schedule != string(x.ID) || all[i].Name != "daily" {
			t.Errorf("%+v", all[i])
		}
	}
	if x = b.find(t, x.ID); x.Last == nil || x.Last.Export != all[1].ID || x.Missed != 0 {
		t.Errorf("%+v", x)
	}
}

// Wherever the store fails, and however many look, a time has one export.
func TestOneExportPerTime(t *testing.T) {
	for _, done := range []bool{false, true} {
		for commit := int64(1); commit <= 4; commit++ {
			b := newBed(t)
			x := b.create(t, Plan{Cron: "* * * * *", Overlap: Along})
			b.now = at(t, "2026-01-01T12:01:10Z")
			b.disk.done = done
			b.disk.left.Store(commit)
			_ = b.Look(t.Context(), "acme")
			b.disk.left.Store(0)
			b.at(t, "2026-01-01T12:01:20Z")
			if n := len(b.made(t)); n != 1 {
				t.Errorf("commit %d failed, done %v: %d exports", commit, done, n)
			}
			if x = b.find(t, x.ID); !x.Next.Equal(at(t, "2026-01-01T12:02:00Z")) || x.Last.Outcome != Made {
				t.Errorf("next is %s, last %+v", x.Next, x.Last)
			}
		}
	}
	b := newBed(t)
	b.create(t, Plan{Cron: "* * * * *", Overlap: Along})
	b.now = at(t, "2026-01-01T12:01:10Z")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _ = b.Look(t.Context(), "acme") })
	}
	all.Wait()
	b.at(t, "2026-01-01T12:01:20Z")
	if n := len(b.made(t)); n != 1 {
		t.Errorf("%d exports by eight", n)
	}
}

// What was missed is made up for as the schedule says.
func TestMissed(t *testing.T) {
	for policy, want := range map[Missed]struct{ exports, missed int }{Latest: {1, 9}, All: {10, 0}, Skip: {0, 10}} {
		b := newBed(t)
		x := b.create(t, Plan{Cron: "0 * * * *", Missed: policy, Overlap: Along, Window: true})
		b.at(t, "2026-01-01T22:30:00Z")
		if all, now := b.made(t), b.find(t, x.ID); len(all) != want.exports || now.Missed != int64(want.missed) || !now.Next.Equal(at(t, "2026-01-01T23:00:00Z")) {
			t.Errorf("%s: %d exports, %d missed, next %s", policy, len(all), now.Missed, now.Next)
		}
		b.at(t, "2026-01-01T23:00:05Z")
		all := b.made(t)
		if len(all) != want.exports+1 || !all[0].Request.From.Equal(at(t, "2026-01-01T12:00:00Z")) {
			t.Errorf("%s: %d exports then, the first from %s", policy, len(all), all[0].Request.From)
		}
		for i := range all[1:] {
			if !all[i+1].Request.From.Equal(all[i].Request.To) {
				t.Errorf("%s: a window begins at %s, and the one before has ended at %s", policy, all[i+1].Request.From, all[i].Request.To)
			}
		}
	}
}

// An export that has not ended is waited for, and the window is made up for.
func TestOverlap(t *testing.T) {
	b := newBed(t)
	x := b.create(t, Plan{Cron: "0 * * * *", Window: true})
	b.at(t, "2026-01-01T13:00:01Z")
	b.at(t, "2026-01-01T14:00:01Z")
	first := b.made(t)
	if now := b.find(t, x.ID); len(first) != 1 || now.Missed != 1 || now.Last.Export != first[0].ID {
		t.Fatalf("%d exports, %+v", len(first), now)
	}
	b.end(t, first[0].ID)
	b.at(t, "2026-01-01T15:00:01Z")
	if all := b.made(t); len(all) != 2 || !all[1].Request.From.Equal(at(t, "2026-01-01T13:00:00Z")) {
		t.Errorf("%d exports, %+v", len(all), b.find(t, x.ID))
	}
}

// An export is made by what its owner may at its time; another owner takes over by
// changing it. Paused schedules make none.
func TestOwners(t *testing.T) {
	b := newBed(t)
	x := b.create(t, Plan{Cron: "0 * * * *", Overlap: Along})
	all := b.may
	b.may = []access.Permission{export.Read, export.Write}
	b.at(t, "2026-01-01T13:00:01Z")
	if now := b.find(t, x.ID); len(b.made(t)) != 0 || now.Last.Outcome != Failed || now.Last.Code != "permission_denied" {
		t.Errorf("%+v", now.Last)
	}
	b.may = nil
	b.at(t, "2026-01-01T14:00:01Z")
	if now := b.find(t, x.ID); len(b.made(t)) != 0 || now.Last.Code != "schedule_owner" {
		t.Errorf("%+v", now.Last)
	}
	b.may = all
	x = b.find(t, x.ID)
	paused := Patch{Paused: new(bool)}
	*paused.Paused = true
	if _, err := b.Change(b.ctx, Change{ID: x.ID, Patch: paused, Version: x.Version - 1}); !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.PreconditionFailed) {
		t.Error(err)
	}
	x, err := b.Change(b.ctx, Change{ID: x.ID, Patch: paused, Version: x.Version})
	if err != nil {
		t.Fatal(err)
	}
	b.at(t, "2026-01-01T20:00:01Z")
	if len(b.made(t)) != 0 || len(x.Upcoming(3)) != 0 {
		t.Error("a paused schedule goes on")
	}
	if _, err = b.Change(b.ctx, Change{ID: x.ID, Patch: Patch{Paused: new(bool)}, Any: true}); err != nil {
		t.Fatal(err)
	}
	b.at(t, "2026-01-01T20:30:00Z")
	b.at(t, "2026-01-01T21:00:01Z")
	if n := len(b.made(t)); n != 1 {
		t.Errorf("%d exports once it goes on", n)
	}
	if err := b.Delete(b.ctx, x.ID); err != nil {
		t.Fatal(err)
	}
	b.at(t, "2026-01-01T22:00:01Z")
	if n := len(b.made(t)); n != 1 {
		t.Errorf("%d exports once it is deleted", n)
	}
	token := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "u", Method: access.MethodToken, Permissions: access.SetOf(all...)})
	if _, err := b.Create(token, b.plan(Plan{Cron: "@daily"})); fault.CodeOf(err) != "schedule_owner" {
		t.Error(err)
	}
	b.may = []access.Permission{export.Read, export.Write}
	blind, _ := b.as(t.Context())
	if _, err := b.Create(blind, b.plan(Plan{Cron: "@daily"})); !fault.Is(err, fault.PermissionDenied) {
		t.Error(err)
	}
}

func TestPlansThatMakeNoSense(t *testing.T) {
	b := newBed(t)
	for code, change := range map[string]func(*Plan){
		"cron_invalid":        func(p *Plan) { p.Cron = "often" },
		"time_zone_unknown":   func(p *Plan) { p.TimeZone = "Mars" },
		"schedule_invalid":    func(p *Plan) { p.Missed = "some" },
		"schedule_invalid ":   func(p *Plan) { p.Overlap = "maybe" },
		"schedule_invalid  ":  func(p *Plan) { p.Request.AsOf = b.now },
		"schedule_invalid   ": func(p *Plan) { p.Window, p.Request.To = true, b.now },
		"dataset_unknown":     func(p *Plan) { p.Request.Dataset = "nothings" },
		"column_unknown":      func(p *Plan) { p.Request.Columns = []string{"x"} },
	} {
		p := b.plan(Plan{Cron: "@daily"})
		change(&p)
		if _, err := b.Create(b.ctx, p); fault.CodeOf(err) != strings.TrimSpace(code) {
			t.Errorf("%s: %v", code, err)
		}
	}
	for range maxSchedules {
		b.create(t, Plan{Cron: "@daily"})
	}
	if _, err := b.Create(b.ctx, b.plan(Plan{Cron: "@daily"})); fault.CodeOf(err) != "schedule_quota" {
		t.Error(err)
	}
}

// A schedule whose export cannot be noted is known by its name.
func TestStoreAway(t *testing.T) {
	b := newBed(t)
	x := b.create(t, Plan{Cron: "* * * * *"})
	b.now, b.disk.away = at(t, "2026-01-01T12:01:10Z"), true
	if after, err := b.fire(t.Context(), repo.Scope{Tenant: "acme", Actor: "system"}, *x); !fault.Is(err, fault.Unavailable) || after.ID != x.ID {
		t.Errorf("%q, %v", after.ID, err)
	}
}
