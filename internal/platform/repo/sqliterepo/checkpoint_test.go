package sqliterepo

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// The log is moved while commits go on, and begun anew while they do.
func TestLogStaysShort(t *testing.T) {
	d, _ := newStore(t, storePath(t), Config{})
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
	if n, err := d.writer.pages(); err != nil || n.Pages != n.Moved {
		t.Errorf("nothing is written any more, and the log has %+v: %v", n, err)
	}
}

// pages moves what is left of the log and says what there was.
func (w *writer) pages() (l sqlite.Log, err error) {
	done := make(chan struct{})
	w.log.rest <- func(c *conn) { l, err = c.Checkpoint(); close(done) }
	<-done
	return l, err
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
	if l, err := d.writer.pages(); err != nil || l.Behind() != 0 {
		t.Errorf("the log has %+v: %v", l, err)
	}
}
