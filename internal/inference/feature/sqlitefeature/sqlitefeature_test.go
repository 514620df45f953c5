package sqlitefeature

import (
	"path/filepath"
	"testing"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/featuretest"
)

// opened is a Store with its file.
type opened struct {
	*Store
	path string
}

func open(tb testing.TB, path string) feature.Store {
	tb.Helper()
	s, err := Open(tb.Context(), "sqlite:"+path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return opened{s, path}
}

func TestContract(t *testing.T) {
	featuretest.Run(t, func(tb testing.TB) feature.Store { return open(tb, filepath.Join(tb.TempDir(), "features.db")) },
		func(tb testing.TB, s feature.Store) feature.Store { return open(tb, s.(opened).path) })
}
