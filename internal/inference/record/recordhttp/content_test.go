package recordhttp

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
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

// Content that is damaged is not shown in part.
func TestDamagedContentIsAnError(t *testing.T) {
	store := newStore(t)
	one := record.AppendTensor(nil, record.Input, &tensor.Tensor{Name: "x", Datatype: tensor.Uint8, Shape: tensor.Shape{1, 2}, Data: []byte{1, 2}})
	both := record.AppendTensor(one, record.Output, &tensor.Tensor{Name: "y", Datatype: tensor.Uint8, Shape: tensor.Shape{1, 2}, Data: []byte{3, 4}})
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme", Subject: "ann", Permissions: access.SetOf(ReadContent)})
	for _, damaged := range []bool{false, true} {
		content := both
		if damaged {
			content = both[:len(both)-1]
		}
		at := time.Now().UTC().Truncate(time.Millisecond)
		e := &record.Entry{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: "1", Content: content, ContentUntil: at.Add(time.Hour)}
		if err := store.Append(ctx, []*record.Entry{e}); err != nil {
			t.Fatal(err)
		}
		out, err := handler{store: store}.content(ctx, &contentIn{ID: e.ID.String()})
		switch {
		case damaged && (err == nil || fault.Of(err).Kind != fault.Internal):
			t.Errorf("damaged: %+v, %v", out, err)
		case !damaged && (err != nil || len(out.Body.Data[0].Outputs) != 1):
			t.Errorf("whole: %+v, %v", out, err)
		}
	}
}
