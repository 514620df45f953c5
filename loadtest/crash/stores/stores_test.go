package stores

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/flag"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
)

// What the platform has committed is read: a record that is there, one that was
// deleted, and what waits in the outbox.
func TestSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	commit(t, path)
	s, err := OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	deleted := map[string]bool{}
	err = s.Records(t.Context(), "feature_flags", func(r Record) error {
		if r.Tenant != "acme" || r.Version < 1 || r.Sequence < 1 || len(r.Doc) == 0 {
			t.Errorf("%+v", r)
		}
		deleted[r.ID] = r.Deleted
		return nil
	})
	if err != nil || len(deleted) != 2 || deleted["kept"] || !deleted["gone"] {
		t.Errorf("%v %v", deleted, err)
	}
	pending := 0
	if err := s.Pending(t.Context(), func(stream, id string) {
		if stream == repo.StreamEvents && id != "" {
			pending++
		}
	}); err != nil || pending < 2 {
		t.Errorf("%d messages wait, %v", pending, err)
	}
	if n, err := s.Count(t.Context(), "SELECT count(*) FROM r_feature_flags"); err != nil || n != 2 {
		t.Error(n, err)
	}
	for kind, want := range map[string]bool{"feature_flags": true, "absent": false} {
		if has, err := s.Has(t.Context(), kind); has != want || err != nil {
			t.Errorf("%s is there: %t, %v", kind, has, err)
		}
	}
	if problem := s.Integrity(t.Context()); problem != "" {
		t.Error(problem)
	}
}

func commit(t *testing.T, path string) {
	t.Helper()
	d, err := sqliterepo.Open(t.Context(), "sqlite:"+path, sqliterepo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Migrate(t.Context(), []*repo.Schema{flag.Flags.Schema()}); err != nil {
		t.Fatal(err)
	}
	store := repo.New(d, repo.Config{})
	for _, id := range []string{"kept", "gone"} {
		err := store.Do(t.Context(), repo.Scope{Tenant: "acme", Actor: "me"}, func(ctx context.Context, tx *repo.Tx) error {
			f, err := flag.New(flag.Key(id), "", true, 100)
			if err != nil {
				return err
			}
			if err := flag.Flags.Add(ctx, tx, f); err != nil || id == "kept" {
				return err
			}
			return flag.Flags.Delete(ctx, tx, f.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Messages come in their order, and those that were taken leave no gap behind
// which nothing is read.
func TestMessages(t *testing.T) {
	folder := t.TempDir()
	err := Queue(folder, func(nc *nats.Conn) error {
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
		if err != nil {
			return err
		}
		for _, id := range []string{"a", "b", "c"} {
			if _, err := js.Publish(t.Context(), "events.x", []byte(`{"id":"`+id+`"}`)); err != nil {
				return err
			}
		}
		return stream.DeleteMsg(t.Context(), 2)
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	err = Queue(folder, func(nc *nats.Conn) error {
		if err := Messages(t.Context(), nc, "ABSENT", nil); err == nil {
			t.Error("a stream that is not there is read")
		}
		return Messages(t.Context(), nc, "EVENTS", func(m repo.Message) { ids = append(ids, m.ID) })
	})
	if err != nil || !slices.Equal(ids, []string{"a", "c"}) {
		t.Error(ids, err)
	}
}

// A log is proven and read, and one that was changed is not proven.
func TestAuditFolder(t *testing.T) {
	dir := t.TempDir()
	key, err := audit.KeyFile(rand.Reader, filepath.Join(dir, "audit.key"), "sluice/test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "audit.pub"), []byte(key.Public().String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	storage, err := audit.OpenFolder(filepath.Join(dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(t.Context(), storage, key, audit.Config{})
	if err == nil {
		_, err = log.Append(t.Context(), []audit.Entry{{ID: "evt_1", Action: "test.run", Outcome: audit.OK}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Close(); err != nil {
		t.Fatal(err)
	}
	entries, report, err := AuditFolder(t.Context(), dir)
	if err != nil || len(report.Problems) > 0 || len(entries) != 1 || entries[0].Entry.ID != "evt_1" {
		t.Errorf("%+v %+v %v", entries, report, err)
	}
	if err := os.Truncate(filepath.Join(dir, "audit", "checkpoint"), 10); err != nil {
		t.Fatal(err)
	}
	if _, report, err := AuditFolder(t.Context(), dir); err == nil && len(report.Problems) == 0 {
		t.Error("a checkpoint that was cut off is proven")
	}
}
