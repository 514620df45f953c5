package sqlitefeature

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/fault"
)

// A process that is stopped within its turn keeps nobody for ever, who says what to do.
func TestTurnThatDoesNotEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "features.db")
	s := open(t, path).(opened)
	s.turn.patience = 20 * time.Millisecond
	stopped, err := openTurn(path + "-turn")
	if err != nil {
		t.Fatal(err)
	}
	if err := stopped.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := []feature.Row{{Entity: "e", EventTime: time.Now(), Values: []byte(`{}`)}}
	put := func(ctx context.Context) error {
		return s.Write(ctx, "ten", "v", rows, time.Time{}, time.Hour)
	}
	if err := put(t.Context()); fault.CodeOf(err) != "store_busy" || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), path+"-turn") {
		t.Errorf("%v", err)
	}
	s.turn.patience = time.Hour
	short, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if err := put(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its time is over: %v", err)
	}
	if err := stopped.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	if err := put(t.Context()); err != nil {
		t.Errorf("behind its end: %v", err)
	}
}

// Close keeps no reader waiting for another process.
func TestCloseEndsReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "features.db")
	s := open(t, path).(opened)
	other, err := openTurn(path + "-turn")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := s.Read(t.Context(), "ten", []feature.Key{{View: "v", Entity: "e"}}, time.Now())
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; fault.CodeOf(err) != "store_closed" {
		t.Errorf("%v", err)
	}
}
