package sqliterecord

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/inference/record"
)

// onceOver is a context that is over after it was asked once.
type onceOver struct {
	context.Context
	asked int
}

func (c *onceOver) Err() error {
	if c.asked++; c.asked > 1 {
		return context.Canceled
	}
	return nil
}

// However many entries have a client's name, all are erased, in steps.
func TestEraseManyInSteps(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const n = 2*eraseSlice + 7
	var list []*record.Entry
	for i := range n {
		at := time.Now().Add(time.Duration(i) * time.Millisecond).UTC().Truncate(time.Millisecond)
		list = append(list, &record.Entry{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: "1", ClientRef: "them"})
	}
	if err := s.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if erased, err := s.Erase(&onceOver{Context: t.Context()}, "acme", record.Subject{ClientRefs: []string{"them"}}); err == nil || erased != eraseSlice {
		t.Errorf("%d entries were erased in one step, %v", erased, err)
	}
	for _, want := range []int64{n - eraseSlice, 0} {
		if erased, err := s.Erase(t.Context(), "acme", record.Subject{ClientRefs: []string{"them"}}); err != nil || erased != want {
			t.Errorf("%d entries were erased, %v, want %d", erased, err, want)
		}
	}
}
