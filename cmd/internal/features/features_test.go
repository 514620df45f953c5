package features

import (
	"testing"

	"sluice/internal/platform/config"
)

// There is no store where the configuration says so, and none in a file of each node of
// a cluster unless it is asked for.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		features, database string
		there              bool
	}{"off": {"none", "", false}, "by default": {"", "", true}, "of a cluster": {"", "scylla://x/y", false}} {
		cfg := config.Config{DataDir: t.TempDir()}
		cfg.Features.URL, cfg.Database.URL = c.features, c.database
		f, err := Open(t.Context(), cfg, nil, nil, nil)
		if err != nil || (f.Store != nil) != c.there || (f.Source() != nil) != c.there || (f.Component().Run != nil) != c.there {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
