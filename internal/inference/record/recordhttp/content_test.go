package recordhttp

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// What waits to be written when an erasure is asked for does not come after it.
func TestErasureWritesWhatWaits(t *testing.T) {
	bus, err := cqrs.NewBus(repo.New(memrepo.New(memrepo.Config{}), repo.Config{}), cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	store, away := newStore(t), errors.New("away")
	handleErasures(bus, store, func(ctx context.Context) error {
		if away != nil {
			return away
		}
		at := time.Now().UTC().Truncate(time.Millisecond)
		return store.Append(ctx, []*record.Entry{{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: "1", ClientRef: "them"}})
	})
	h := handler{store: store, bus: bus}
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "ann", Permissions: access.SetOf(Erase)})
	in := new(eraseIn)
	in.Body.ClientRefs = []string{"them"}
	if _, err := h.erase(ctx, in); !errors.Is(err, away) {
		t.Errorf("what waits cannot be written: %v", err)
	}
	away = nil
	if out, err := h.erase(ctx, in); err != nil || out.Body.Entries != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}
