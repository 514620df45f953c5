package sqlitefeature

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/featuretest"
	"sluice/internal/platform/sqlite"
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

func TestClosed(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "features.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, read := s.Read(t.Context(), "ten", []feature.Key{{View: "v", Entity: "e"}}, time.Now())
	for name, err := range map[string]error{
		"read": read, "write": s.Write(t.Context(), "ten", "v", nil, time.Time{}, time.Hour),
		"forget": s.Forget(t.Context(), "ten", feature.Key{View: "v", Entity: "e"}), "expire": s.Expire(t.Context(), time.Now()), "ping": s.Ping(t.Context()),
	} {
		if !errors.Is(err, sqlite.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
