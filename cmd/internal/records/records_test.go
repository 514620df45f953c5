package records

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/record"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/telemetry"
)

func open(t *testing.T, flags ...string) *Records {
	t.Helper()
	cfg, err := config.Load(flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), cfg, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), &telemetry.Health{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What was noted is kept, also where the program ends at once; the next one has it.
func TestEndKeepsAll(t *testing.T) {
	dir := "--data-dir=" + t.TempDir()
	r := open(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	err := lifecycle.Run(ctx, lifecycle.Config{Grace: 20 * time.Second, Started: func() {
		now := time.Now().UTC().Truncate(time.Millisecond)
		e := r.Recorder().Entry()
		e.ID, e.At, e.Tenant, e.Model = record.NewID(now), now, "acme", "m"
		r.Recorder().Record(e)
		stop()
	}}, r.Component())
	if err != nil {
		t.Fatal(err)
	}
	r = open(t, dir)
	found, err := r.Store.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: "acme"}, Limit: 10})
	if err != nil || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A program without a log has nothing to note in, and nothing to close.
func TestNone(t *testing.T) {
	for _, r := range []*Records{nil, open(t, "--record-url=none")} {
		if r.Recorder() != nil || r.Close() != nil {
			t.Errorf("%+v", r)
		}
	}
}
