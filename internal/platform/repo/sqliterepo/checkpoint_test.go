package sqliterepo

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// The log is moved while commits go on, and begun anew while they do.
func TestLogStaysShort(t *testing.T) {
	registry := prometheus.NewRegistry()
	d, _ := newStore(t, storePath(t), Config{Metrics: registry})
	text := strings.Repeat("x", 16*sqlite.PageSize)
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 100 {
				if err := d.Commit(t.Context(), &repo.Changeset{Marks: []repo.Mark{{Consumer: text, Message: fmt.Sprint(g, i), ExpiresAt: time.Now()}}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	file, err := os.Stat(d.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// Each value is in the table and in its key: 1,600 of 32 pages.
	if pages := file.Size() / sqlite.PageSize; pages > logLimit+1600 {
		t.Errorf("the log has %d pages", pages)
	}
	if n := count(t, registry, "sluice_sqlite_checkpoint_seconds"); n == 0 {
		t.Error("it was never moved beside the commits")
	}
	if n := d.moved(t); n.Pages != n.Moved {
		t.Errorf("nothing is written any more, and the log has %+v", n)
	}
}

// moved has the writer move what is left of the log and returns what there was.
func (d *stored) moved(t *testing.T) (l sqlite.Log) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); l.Pages == 0; { // none: the other is at it
		var err error
		done := make(chan struct{})
		d.writer.log.rest <- func(c *conn) { l, err = c.Checkpoint(); close(done) }
		if <-done; err != nil || time.Now().After(end) {
			t.Fatalf("the log is not moved: %v", err)
		}
	}
	return l
}

// count returns how often a histogram has observed something.
func count(t *testing.T, g prometheus.Gatherer, name string) uint64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}

// Who reads an old state for long keeps the log from being begun anew, not the
// commits from going on.
func TestReaderKeepsTheLog(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{})
	if err := add(t.Context(), store, "first"); err != nil {
		t.Fatal(err)
	}
	err := d.readers.Query(t.Context(), newStatement("SELECT count(*) FROM inbox"), func([]value) error {
		for i := range 2 * logJobs {
			if err := add(t.Context(), store, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l := d.moved(t); l.Behind() != 0 {
		t.Errorf("the log has %+v", l)
	}
}
