package job

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// lives is a store and a bucket with one clock, whose processes die at any step.
type lives struct {
	now      time.Time
	store    *repo.Store
	bucket   *memblob.Bucket
	payloads Payloads
	scope    repo.Scope
	ids      []ID
	saved    map[ID]Payload // inputs and outputs that no commit has named yet
	attempts map[ID]int
}

func newLives(t *rapid.T) *lives {
	l := &lives{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), scope: repo.Scope{Tenant: tenant, Actor: "key_1"}, saved: map[ID]Payload{}, attempts: map[ID]int{}}
	clock := func() time.Time { return l.now }
	l.store = repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: clock})
	if err := l.store.Driver().Migrate(context.Background(), []*repo.Schema{Predictions.Schema()}); err != nil {
		t.Fatal(err)
	}
	l.bucket = memblob.New(memblob.Config{Now: clock})
	l.payloads = NewPayloads(l.bucket)
	return l
}

var large = Message{Body: bytes.Repeat([]byte("x"), MaxInline+1)}

// save keeps a large payload, as a process does just before it commits or dies.
func (l *lives) save(t *rapid.T, id ID) Payload {
	p, err := l.payloads.Save(context.Background(), Owner{tenant, id}, large)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (l *lives) do(t *rapid.T, fn func(ctx context.Context, tx *repo.Tx) error) error {
	err := l.store.Do(context.Background(), l.scope, fn)
	if err != nil && !errors.Is(err, errStale) && !errors.Is(err, errBusy) && !errors.Is(err, repo.ErrNotFound) {
		t.Fatal(err)
	}
	return err
}

func (l *lives) update(t *rapid.T, id ID, change func(p *Prediction) error) error {
	return l.do(t, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Predictions.Update(ctx, tx, id, change)
		return err
	})
}

// step does one thing that happens to predictions.
func (l *lives) step(t *rapid.T, action string) {
	ctx := context.Background()
	if action == "submit" {
		id := ID(repo.RandomName())
		input := l.save(t, id)
		if rapid.Bool().Draw(t, "dies before the commit") {
			return
		}
		l.ids = append(l.ids, id)
		_ = l.do(t, func(ctx context.Context, tx *repo.Tx) error {
			p := &Prediction{Model: "m", Input: input}
			p.ID = id
			p.Accept(tx.Now(), timing)
			return Predictions.Add(ctx, tx, p)
		})
		return
	}
	if action == "time" {
		l.now = l.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "minutes")) * time.Minute)
		clear(l.saved) // nobody waits that long between an object and its commit
		return
	}
	if action == "purge" {
		if _, err := l.store.Driver().Purge(ctx, Predictions.Name, l.now, 1000); err != nil {
			t.Fatal(err)
		}
		return
	}
	if action == "sweep" {
		l.sweep(t)
		return
	}
	if len(l.ids) == 0 {
		return
	}
	id := rapid.SampledFrom(l.ids).Draw(t, "id")
	switch action {
	case "start":
		_ = l.update(t, id, func(p *Prediction) error {
			if begun, err := p.Start("w", "1", l.now, timing); !begun {
				return err
			}
			l.attempts[id] = p.Attempt
			return nil
		})
	case "answer":
		l.saved[id] = l.save(t, id)
	case "finish":
		if out, ok := l.saved[id]; ok {
			_ = l.update(t, id, func(p *Prediction) error { return p.Succeed(l.attempts[id], out, "1", "d", Metrics{}, l.now, timing) })
		}
	case "fail":
		_ = l.update(t, id, func(p *Prediction) error { return p.Fail(l.attempts[id], Failure{Code: "x"}, 0, l.now, timing) })
	case "cancel":
		_ = l.update(t, id, func(p *Prediction) error { p.Cancel(l.now, timing); return nil })
	}
}

func (l *lives) sweep(t *rapid.T) {
	_, err := blob.SweepOrphans(context.Background(), l.bucket, tenant+"/"+Folder, l.now.Add(-24*time.Hour), func(ctx context.Context, key string) (bool, error) {
		return Owned(ctx, l.store, tenant, key)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// whole fails where an object that a living prediction names cannot be read.
func (l *lives) whole(t *rapid.T) {
	ctx := context.Background()
	for _, id := range l.ids {
		p, err := Predictions.Get(ctx, l.store.Read(l.scope), id)
		if errors.Is(err, repo.ErrNotFound) {
			continue
		}
		for _, kept := range []Payload{p.Input, p.Output} {
			if kept.Object == "" {
				continue
			}
			if data, err := l.payloads.Load(ctx, kept); err != nil || !bytes.Equal(data, large.Body) {
				t.Fatalf("%s, which is %s, has lost %s: %v", id, p.Status, kept.Object, err)
			}
		}
	}
}

// Processes die between an object and the commit that names it, attempts overlap,
// the sweep comes at any time: no object that a living prediction names is ever
// deleted, and none is left for ever.
func TestObjectsLiveAsLongAsTheirPredictions(t *testing.T) {
	actions := []string{"submit", "start", "answer", "finish", "fail", "cancel", "time", "time", "purge", "sweep", "sweep"}
	rapid.Check(t, func(t *rapid.T) {
		l := newLives(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			l.step(t, rapid.SampledFrom(actions).Draw(t, "action"))
			l.whole(t)
		}
		for _, id := range l.ids {
			_ = l.update(t, id, func(p *Prediction) error { p.Cancel(l.now, timing); return nil })
			_ = l.update(t, id, func(p *Prediction) error { return p.Fail(p.Attempt, Failure{}, 0, l.now, timing) })
		}
		l.now = l.now.Add(25 * time.Hour)
		l.sweep(t)
		for info, err := range l.bucket.List(context.Background(), "", "") {
			t.Fatalf("%s is left, %v", info.Key, err)
		}
	})
}

func TestPayloadForms(t *testing.T) {
	payloads := NewPayloads(memblob.New(memblob.Config{}))
	three := 3
	for _, m := range []Message{
		{Body: []byte(`{"inputs":[]}`)}, {Body: []byte("{}\x00\xff\xfe"), Text: &three}, large, {Body: bytes.Repeat([]byte{0xff}, MaxInline+9), Text: &three}, {Body: []byte{}, Text: new(int)},
	} {
		p, err := payloads.Save(t.Context(), Owner{tenant, "pred_1"}, m)
		if err != nil {
			t.Fatal(err)
		}
		if inline := p.Object == ""; inline != (len(m.Body) <= MaxInline) || p.Text != m.Text {
			t.Errorf("%d bytes are kept as %+v", len(m.Body), p)
		}
		data, err := payloads.Load(t.Context(), p)
		if err != nil || !bytes.Equal(data, m.Body) {
			t.Errorf("%d bytes come back as %d, %v", len(m.Body), len(data), err)
		}
		if p.Bytes < 2 {
			continue
		}
		body, err := payloads.Open(t.Context(), p, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		part, err := io.ReadAll(io.LimitReader(body, 1))
		if err != nil || !bytes.Equal(part, m.Body[1:2]) {
			t.Errorf("a part comes back as %q, %v", part, err)
		}
		body.Close()
	}
}

// An object that is not what was kept is found out, whichever way it is read.
func TestDamagedPayload(t *testing.T) {
	b := memblob.New(memblob.Config{})
	payloads := NewPayloads(b)
	p, err := payloads.Save(t.Context(), Owner{tenant, "pred_1"}, large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), p.Object, strings.NewReader(strings.Repeat("y", len(large.Body))), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := payloads.Load(t.Context(), p); fault.CodeOf(err) != blob.CodeChecksum {
		t.Error(err)
	}
	payloads.Drop(t.Context(), p)
	if _, err := payloads.Load(t.Context(), p); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
