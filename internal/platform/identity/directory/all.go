package directory

import (
	"context"
	"iter"

	"sluice/internal/platform/spec"
)

// Tenants goes through the ids of all tenants, suspended ones too: what they have
// begun goes on. After an error there is nothing more.
func (d *Directory) Tenants(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for t, err := range Tenants.All(ctx, d.store.Read(platform("")), spec.Query[Tenant]{}) {
			if !yield(string(t.ID), err) || err != nil {
				return
			}
		}
	}
}
