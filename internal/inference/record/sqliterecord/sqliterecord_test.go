package sqliterecord

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is a store that knows its file.
type stored struct {
	*Store
	path string
}

func openPath(t testing.TB, path string) record.Store {
	t.Helper()
	s, err := Open(t.Context(), "sqlite:"+path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stored{s, path}
}

func open(t testing.TB) record.Store { return openPath(t, filepath.Join(t.TempDir(), "log.db")) }

func TestContract(t *testing.T) {
	recordtest.Suite{Open: open, Second: func(t testing.TB, s record.Store) record.Store { return openPath(t, s.(*stored).path) }}.Run(t)
}
