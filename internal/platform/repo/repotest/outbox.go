package repotest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/internal/platform/repo"
)

// drain publishes all that is pending, a little at a time, and returns it.
func (f *fixture) drain(t rapid.TB) []repo.Message {
	t.Helper()
	var out []repo.Message
	for shard := range f.driver.Shards() {
		for {
			batch, err := f.driver.Pending(ctx, shard, 50)
			must(t, err)
			if len(batch) > 50 {
				t.Fatalf("Pending returned %d messages, at most 50 were asked for", len(batch))
			}
			if len(batch) == 0 {
				break
			}
			out = append(out, batch...)
			must(t, f.driver.Published(ctx, shard, batch, f.clock.Now()))
		}
	}
	return out
}

// pending returns all that is pending, and publishes nothing.
func (f *fixture) pending(t rapid.TB) []repo.Message {
	t.Helper()
	var out []repo.Message
	for shard := range f.driver.Shards() {
		batch, err := f.driver.Pending(ctx, shard, 100_000)
		must(t, err)
		out = append(out, batch...)
	}
	return out
}

// eachShard adds up what ask returns for the shards.
func (f *fixture) eachShard(t rapid.TB, ask func(shard int) (int, error)) int {
	t.Helper()
	sum := 0
	for shard := range f.driver.Shards() {
		n, err := ask(shard)
		must(t, err)
		sum += n
	}
	return sum
}

// trim forgets messages that were published before, and returns how many.
func (f *fixture) trim(t rapid.TB, before time.Time, limit int) int {
	t.Helper()
	return f.eachShard(t, func(shard int) (int, error) {
		n, err := f.driver.Trim(ctx, shard, before, limit)
		if n > limit {
			t.Errorf("Trim forgot %d messages, at most %d were allowed", n, limit)
		}
		return n, err
	})
}

func (f *fixture) backlog(t rapid.TB) (n int, oldest time.Time) {
	t.Helper()
	n = f.eachShard(t, func(shard int) (int, error) {
		n, at, err := f.driver.Backlog(ctx, shard)
		if n > 0 && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
		if n == 0 && !at.IsZero() {
			t.Fatalf("the oldest of no messages is of %s", at)
		}
		return n, err
	})
	return n, oldest
}

func testOutbox(t *testing.T, f *fixture) {
	s := scope()
	f.drain(t)
	f.clock.advance(time.Second)
	for f.trim(t, f.clock.Now(), 1000) > 0 { // what other tests have left
	}
	if n, _ := f.backlog(t); n != 0 {
		t.Fatalf("an empty outbox has a backlog of %d", n)
	}
	first := f.clock.Now()
	f.add(t, s, newThing("a", thing{N: 1}))
	f.clock.advance(time.Minute)
	f.do(t, s, func(ctx context.Context, tx *repo.Tx) error {
		if err := bump(ctx, tx, "a"); err != nil {
			return err
		}
		return tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Version: 2, Data: []byte(`{ "a" : "<ü>" }`)})
	})
	if n, oldest := f.backlog(t); n != 3 || !oldest.Equal(first) {
		t.Errorf("the backlog is %d since %s, expected 3 since %s", n, oldest, first)
	}
	got := f.pending(t)
	want := []repo.Message{
		{Key: repo.Key{Tenant: s.Tenant, Kind: things.Name, ID: "a"}, Sequence: 1, Stream: repo.StreamEvents, Type: "thing.changed", Version: 3, Time: first, Data: []byte(`{"n":1}`)},
		{Key: repo.Key{Tenant: s.Tenant, Kind: things.Name, ID: "a"}, Sequence: 2, Stream: repo.StreamEvents, Type: "thing.changed", Version: 3, Time: f.clock.Now(), Data: []byte(`{"n":2}`)},
		{Key: repo.Key{Tenant: s.Tenant, Kind: repo.StreamAudit}, Stream: repo.StreamAudit, Type: "audit.entry", Version: 2, Time: f.clock.Now(), Data: []byte(`{ "a" : "<ü>" }`)},
	}
	for i := range want {
		m := &want[i]
		m.Actor, m.Request, m.Correlation, m.Causation, m.TraceParent = s.Actor, s.Request, s.Correlation, s.Causation, s.TraceParent
	}
	for i := range got {
		if got[i].ID == "" || got[i].Stream == repo.StreamAudit && got[i].Key.ID != got[i].ID {
			t.Errorf("message %d has the id %q and the key %+v", i, got[i].ID, got[i].Key)
		}
	}
	for i := range got {
		if got[i].Stream == repo.StreamAudit {
			got[i].Key.ID = ""
		}
		got[i].ID = ""
	}
	byStream := cmpopts.SortSlices(func(a, b repo.Message) bool {
		return a.Stream > b.Stream || a.Stream == b.Stream && a.Sequence < b.Sequence
	})
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(repo.Message{}, "Keep"), byStream); diff != "" {
		t.Fatalf("pending (-want +got):\n%s", diff)
	}
	testPublished(t, f, s)
}

// testPublished takes three messages that are pending through the rest of their
// lives.
func testPublished(t *testing.T, f *fixture, s repo.Scope) {
	if got := f.drain(t); len(got) != 3 {
		t.Fatalf("drained %d messages, expected 3", len(got))
	}
	since := f.clock.Now()
	republish := func(within time.Duration) int {
		return f.eachShard(t, func(shard int) (int, error) { return f.driver.Republish(ctx, shard, within, since) })
	}
	f.clock.advance(time.Hour)
	since = since.Add(time.Microsecond)
	if n := republish(2 * time.Hour); n != 0 {
		t.Errorf("%d messages are pending again, published before the time", n)
	}
	since = since.Add(-time.Microsecond)
	if n := republish(0); n != 3 {
		t.Errorf("%d messages are pending again, expected 3", n)
	}
	if n := republish(time.Hour); n != 0 {
		t.Errorf("%d messages are pending again that are pending", n)
	}
	if n, _ := f.backlog(t); n != 3 {
		t.Errorf("the backlog is %d, expected 3", n)
	}
	f.clock.advance(time.Minute)
	again := f.drain(t)
	inOrder(t, again, "a", s.Tenant, 2)
	f.clock.advance(time.Minute)
	f.do(t, s, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, "a") })
	f.drain(t)
	republish(time.Minute - time.Microsecond)
	for _, m := range f.drain(t) {
		if m.Key.ID == "a" && m.Tenant == s.Tenant && m.Sequence != 3 {
			t.Errorf("message %d is pending again, which was published a minute before the last", m.Sequence)
		}
	}
	republish(time.Minute)
	inOrder(t, f.drain(t), "a", s.Tenant, 3)
	if n := f.trim(t, f.clock.Now(), 100); n != 0 {
		t.Errorf("Trim forgot %d messages that were not published before the time", n)
	}
	n := 0
	for {
		k := f.trim(t, f.clock.Now().Add(time.Microsecond), 2)
		if k == 0 {
			break
		}
		n += k
	}
	if n != 4 {
		t.Errorf("Trim forgot %d messages, expected 4", n)
	}
	if n := republish(100 * 365 * 24 * time.Hour); n != 0 {
		t.Errorf("%d forgotten messages are pending again", n)
	}
	// What is pending is never forgotten.
	s = scope()
	f.add(t, s, newThing("b", thing{}))
	f.trim(t, f.clock.Now().Add(time.Hour), 100)
	if got := f.drain(t); len(got) != 1 {
		t.Errorf("pending: %+v", got)
	}
}

// Units of work at the same time; a reader that publishes meanwhile sees each
// aggregate's messages without gaps and in order.
func testOutboxOrder(t *testing.T, f *fixture) {
	s := scope()
	f.drain(t)
	all := ids(4)
	for _, id := range all {
		f.add(t, s, newThing(id, thing{}))
	}
	const workers, each = 8, 10
	finished := make(chan []error, 1)
	go func() {
		finished <- together(workers, func(i int) error {
			for range each {
				if err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, all[i%len(all)]) }); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	var got []repo.Message
	for running := true; running; {
		select {
		case errs := <-finished:
			for _, err := range errs {
				must(t, err)
			}
			running = false
		default:
		}
		got = append(got, f.drain(t)...)
	}
	for _, id := range all {
		inOrder(t, got, string(id), s.Tenant, 1+workers*each/int64(len(all)))
	}
}

func testOutboxChanged(t *testing.T, f *fixture) {
	for emptied := false; !emptied; {
		select {
		case <-f.driver.Changed():
		default:
			emptied = true
		}
	}
	f.add(t, scope(), newThing("a", thing{}))
	select {
	case <-f.driver.Changed():
	case <-time.After(patience):
		t.Error("nobody was told that there are messages")
	}
	f.drain(t)
	if n := f.eachShard(t, func(shard int) (int, error) {
		m, err := f.driver.Pending(ctx, shard, 1)
		return len(m), err
	}); n != 0 {
		t.Errorf("%d messages are pending after a drain", n)
	}
}
