package job

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

// As many batches may be open as is configured, also where that is more than a page has.
func TestOpen(t *testing.T) {
	const most = spec.MaxLimit + 1
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	scope := repo.Scope{Tenant: "acme"}
	add := func(n int) {
		t.Helper()
		if err := store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
			for range n {
				b := Batch{Status: Running}
				b.ID = aggregate.NewID[ID](Prefix, uuid.Must(uuid.NewV7()))
				if err := Batches.Add(ctx, tx, &b); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	add(most - 1)
	if err := room(t.Context(), store.Read(scope), most); err != nil {
		t.Error(err)
	}
	add(1)
	if err := room(t.Context(), store.Read(scope), most); fault.CodeOf(err) != "batches_open" {
		t.Errorf("%d are open: %v", most, err)
	}
}
