package sqliterepo

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// childStore names the store that a child process of the test works on.
const childStore = "SLUICE_TEST_SQLITE_CHILD"

// child changes the store until it is killed, and prints what it was told to be
// committed.
func child(path string) error {
	ctx := context.Background()
	d, err := Open(ctx, path, Config{})
	if err != nil {
		return err
	}
	if err := d.Migrate(ctx, []*repo.Schema{items.Schema()}); err != nil {
		return err
	}
	store := repo.New(d, repo.Config{})
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for {
				id := uuid.NewString()
				if err := store.Do(ctx, scopeOf(id), func(ctx context.Context, tx *repo.Tx) error { return work(ctx, tx, w, id) }); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Fprintln(os.Stdout, id)
			}
		})
	}
	workers.Wait()
	return nil
}

func scopeOf(id string) repo.Scope {
	return repo.Scope{Tenant: who.Tenant, Actor: who.Actor, Correlation: id}
}

// work counts the worker's item up, adds an item, and says so in an audit message.
func work(ctx context.Context, tx *repo.Tx, worker int, id string) error {
	counter := itemID(fmt.Sprint("counter_", worker))
	there, err := items.Exists(ctx, tx, counter)
	if err == nil && !there {
		err = items.Add(ctx, tx, &item{Root: aggregate.Root[itemID]{ID: counter}})
	}
	if err == nil {
		_, err = items.Update(ctx, tx, counter, func(i *item) error { i.Rank++; i.Record(made{i.Rank}); return nil })
	}
	if err == nil {
		err = items.Add(ctx, tx, newItem(id, 1))
	}
	if err == nil {
		err = tx.Publish(repo.Message{Stream: repo.StreamAudit, Type: "audit.entry", Data: []byte("{}")})
	}
	return err
}

// killed runs a child, kills it at some point, and returns what it printed.
func killed(t *testing.T, path string) (acknowledged []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childStore+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var end *time.Timer
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a line that was cut off was not read by anybody
		}
		if end == nil { // it works: some time from now it ends
			end = time.AfterFunc(rand.N(60*time.Millisecond), func() { cmd.Process.Kill() })
		}
		acknowledged = append(acknowledged, strings.TrimSpace(line))
	}
	cmd.Wait()
	return acknowledged
}

// A process that is killed at any point loses nothing that it was told to be
// committed, and leaves no half of a unit of work.
func TestKill(t *testing.T) {
	path := storePath(t)
	sum := tally{items: map[string]bool{}, counts: map[string]int64{}}
	acknowledged := 0
	for round := range 20 {
		ids := killed(t, path)
		if len(ids) == 0 {
			t.Fatalf("round %d: the child did nothing", round)
		}
		acknowledged += len(ids)
		d, store := newStore(t, path, Config{})
		for _, id := range ids {
			if ok, err := items.Exists(t.Context(), store.Read(who), itemID(id)); !ok || err != nil {
				t.Fatalf("round %d: %s was acknowledged and is lost: %v", round, id, err)
			}
		}
		sum.check(t, d, store)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d units of work were acknowledged, %d committed", acknowledged, len(sum.items))
}

// tally is what was seen in all rounds.
type tally struct {
	items  map[string]bool
	counts map[string]int64 // by counter
}

// check compares the messages since the last check with the items.
func (s *tally) check(t *testing.T, d *stored, store *repo.Store) {
	t.Helper()
	var check string
	if err := d.readers.Query(t.Context(), newStatement("PRAGMA quick_check"), func(row []value) error { check = row[0].(string); return nil }); err != nil || check != "ok" {
		t.Fatalf("the file is damaged: %q, %v", check, err)
	}
	pending, err := d.Pending(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	events, audits := map[string]bool{}, map[string]bool{}
	for _, m := range pending {
		switch {
		case m.Stream == repo.StreamAudit:
			audits[m.Correlation] = true
		case strings.HasPrefix(m.Key.ID, "counter_"):
			if s.counts[m.Key.ID]++; m.Sequence != s.counts[m.Key.ID] {
				t.Fatalf("%s: event %d follows %d", m.Key.ID, m.Sequence, s.counts[m.Key.ID]-1)
			}
		default:
			events[m.Key.ID] = true
		}
	}
	if err := d.Published(t.Context(), 0, pending, store.Now()); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for i, err := range items.All(t.Context(), store.Read(who), spec.Query[item]{}) {
		switch id := string(i.ID); {
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(id, "counter_"):
			if i.Rank != s.counts[id] || i.Sequence != i.Rank {
				t.Fatalf("%s counts %d and has %d events", id, i.Rank, s.counts[id])
			}
		case !s.items[id]:
			s.items[id] = true
			fresh++
			if !events[id] || !audits[id] {
				t.Fatalf("half a unit of work: %s, with event %t, with audit message %t", id, events[id], audits[id])
			}
		}
	}
	if fresh != len(events) || fresh != len(audits) {
		t.Fatalf("%d new items have %d events and %d audit messages", fresh, len(events), len(audits))
	}
}
