package features

import (
	"testing"

	"sluice/internal/platform/config"
)

// A cluster's features are where all else is, unless the configuration says otherwise.
func TestAddress(t *testing.T) {
	for _, c := range []struct{ features, database, want string }{
		{"", "", "sqlite:/d/features.db"}, {"", "sqlite:/x", "sqlite:/d/features.db"}, {"", "scylla://x/y", "scylla://x/y"},
		{"none", "scylla://x/y", "none"}, {"sqlite:/f", "scylla://x/y", "sqlite:/f"}, {"scylla://z/f", "", "scylla://z/f"},
	} {
		cfg := config.Config{DataDir: "/d"}
		cfg.Features.URL, cfg.Database.URL = c.features, c.database
		if got := address(cfg); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// There is no store where the configuration says so.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		features string
		there    bool
	}{"off": {"none", false}, "by default": {"", true}} {
		cfg := config.Config{DataDir: t.TempDir()}
		cfg.Features.URL = c.features
		f, err := Open(t.Context(), cfg, nil, nil, nil)
		if err != nil || (f.Store != nil) != c.there || (f.Source() != nil) != c.there || (f.Component().Run != nil) != c.there {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
