//go:build services

package registry

import (
	"testing"

	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/repo/scyllarepo"
)

// Models and versions are registered, listed, searched and filtered on CQL as on the other
// stores.
func TestOnCQL(t *testing.T) {
	for name, f := range map[string]func(*testing.T, *bed){
		"WayOfAModel": wayOfAModel, "ModelsAreFound": modelsAreFound, "VersionsAreFound": versionsAreFound, "PagesAreStable": pagesAreStable,
	} {
		t.Run(name, func(t *testing.T) {
			d, err := scyllarepo.Open(t.Context(), cqltest.Fresh(t), scyllarepo.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			if err := d.Migrate(t.Context(), Schemas()); err != nil {
				t.Fatal(err)
			}
			b := newBed(t)
			b.over(d)
			f(t, b)
		})
	}
}
