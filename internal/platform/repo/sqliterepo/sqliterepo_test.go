package sqliterepo

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/repotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is a driver that knows its file.
type stored struct {
	*Driver
	path string
}

func openPath(t testing.TB, path string, cfg Config) *stored {
	t.Helper()
	d, err := Open(t.Context(), "sqlite:"+path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &stored{d, path}
}

func open(t testing.TB) repo.Driver {
	t.Helper()
	return openPath(t, filepath.Join(t.TempDir(), "store.db"), Config{})
}

func again(t testing.TB, d repo.Driver) repo.Driver {
	t.Helper()
	return openPath(t, d.(*stored).path, Config{})
}

func TestContract(t *testing.T) {
	repotest.Suite{Open: open, Reopen: again, Second: again}.Run(t)
}
