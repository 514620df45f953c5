package exports

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/records"
	"sluice/internal/batch/export"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/record"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/internal/inference/release"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/config"
	"sluice/internal/platform/repo"
)

// The log's entries of the tenant that were begun before as_of are read in their
// order, over pages, with those that came while they were read.
func TestPredictions(t *testing.T) {
	s := newShop()
	log, err := sqliterecord.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "log.db"), sqliterecord.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.log = log
	note := func(tenant string, from, n int) {
		entries := make([]*record.Entry, n)
		for i := range entries {
			at := start.Add(time.Duration(from+i) * time.Second)
			entries[i] = &record.Entry{ID: record.NewID(at), At: at, Tenant: tenant, Model: "iris", ClientRef: fmt.Sprint("ref ", from+i)}
		}
		if err := log.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	const before = 2 * record.MaxLimit
	note("acme", 0, before)
	note("rival", 10, 1)
	scan := open(t, s, "predictions", export.Slice{AsOf: start.Add(time.Hour)})
	refs := drain(t, scan, "client_ref")
	note("acme", before, 5)  // still before as_of
	note("acme", 100_000, 5) // after it
	refs = append(refs, drain(t, scan, "client_ref")...)
	for i, ref := range refs {
		if ref != fmt.Sprint("ref ", i) {
			t.Fatalf("row %d is %v", i, ref)
		}
	}
	if n, err := scan.Count(t.Context()); err != nil || len(refs) != before+5 || n != scan.Seen() || n != before+5 {
		t.Errorf("%d rows, the log counts %d, %d were seen, %v", len(refs), n, scan.Seen(), err)
	}
	some := open(t, s, "predictions", export.Slice{AsOf: start.Add(time.Hour), From: start.Add(10 * time.Second), To: start.Add(20 * time.Second)})
	if got := drain(t, some, "client_ref"); len(got) != 10 || got[0] != "ref 10" {
		t.Errorf("of ten seconds: %v", got)
	}
}

// forgetful is a log that finds an entry less than it counts.
type forgetful struct{ record.Store }

func (f forgetful) Count(ctx context.Context, filter record.Filter) (int64, error) {
	n, err := f.Store.Count(ctx, filter)
	return n + 1, err
}

// What was read is compared with what the log itself counts in the slice, so that an
// export that lacks an entry is seen.
func TestPredictionsAreCounted(t *testing.T) {
	s := newShop()
	log, err := sqliterecord.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "log.db"), sqliterecord.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.log = forgetful{log}
	at := start.Add(time.Minute)
	for _, tenant := range []string{"acme", "rival"} {
		var entries []*record.Entry
		for _, at := range []time.Time{at, at.Add(time.Second), at.Add(time.Hour)} {
			entries = append(entries, &record.Entry{ID: record.NewID(at), At: at, Tenant: tenant, Model: "iris"})
		}
		if err := log.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	scan := open(t, s, "predictions", export.Slice{AsOf: start.Add(time.Hour), From: at})
	rows := drain(t, scan, "id")
	if n, err := scan.Count(t.Context()); err != nil || len(rows) != 2 || scan.Seen() != 2 || n != 3 {
		t.Errorf("%d rows, %d seen, %d counted, %v", len(rows), scan.Seen(), n, err)
	}
}

// One process of several has a log of its own, which is not all of it.
func TestSharedLog(t *testing.T) {
	var cfg config.Config
	log := &sqliterecord.Store{}
	if records.Shared(cfg, log) == nil {
		t.Error("the log of a process that is alone is not exported")
	}
	cfg.NATS.URL = []string{"nats://127.0.0.1:1"}
	if records.Shared(cfg, log) != nil {
		t.Error("the log of one process of several is exported")
	}
	cfg.Record.URL = "clickhouse://127.0.0.1:9000/sluice"
	if records.Shared(cfg, log) == nil {
		t.Error("the log of all processes is not exported")
	}
}

// Experiments and releases are as they were at as_of, whatever has become of them.
func TestTimeTravel(t *testing.T) {
	s := newShop()
	share := func(n int) *experiment.Allocation {
		a, err := experiment.Allocate(experiment.Arm{Name: "a", Weight: experiment.Total - n}, experiment.Arm{Name: "b", Weight: n})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	s.in(t, "", func(ctx context.Context, tx *repo.Tx) error {
		_, err := rollout.Experiments.Begin(ctx, tx, "exp_1", rollout.ExperimentStarted{Model: "iris", Alias: "champion",
			Config: experiment.Config{Salt: "s", Allocation: share(1000)}, Arms: []rollout.Arm{{Name: "a", Version: 1}, {Name: "b", Version: 2}}})
		return err
	})
	s.in(t, "", func(ctx context.Context, tx *repo.Tx) error {
		_, err := release.Releases.Begin(ctx, tx, "rel_1", release.Started{Plan: release.Plan{Model: "iris", Alias: "champion", Steps: []release.Step{{Weight: 100}, {Weight: 1000}}}})
		return err
	})
	s.in(t, "", func(ctx context.Context, tx *repo.Tx) error {
		_, err := rollout.Experiments.Append(ctx, tx, "exp_1", func(rollout.LoadedExperiment) ([]aggregate.Event, error) {
			return []aggregate.Event{rollout.ExperimentReweighted{Allocation: share(2500)}, rollout.ExperimentStopped{Reason: "enough"}}, nil
		})
		if err != nil {
			return err
		}
		return nil
	})
	s.in(t, "", func(ctx context.Context, tx *repo.Tx) error {
		_, err := release.Releases.Append(ctx, tx, "rel_1", func(rollout.LoadedRelease) ([]aggregate.Event, error) {
			return []aggregate.Event{release.Advanced{Step: 1}}, nil
		})
		return err
	})
	at := func(seconds int) export.Slice {
		return export.Slice{AsOf: start.Add(time.Duration(seconds) * time.Second)}
	}
	for _, tt := range []struct {
		set, column string
		seconds     int
		want        []any
	}{
		{"experiments", "weight", 0, nil},
		{"experiments", "weight", 1, []any{int64(9000), int64(1000)}},
		{"experiments", "stopped", 2, []any{false, false}},
		{"experiments", "weight", 3, []any{int64(7500), int64(2500)}},
		{"experiments", "reason", 3, []any{"enough", "enough"}},
		{"releases", "step", 1, nil},
		{"releases", "step", 3, []any{int64(0)}},
		{"releases", "step", 4, []any{int64(1)}},
	} {
		if diff := cmp.Diff(tt.want, drain(t, open(t, s, tt.set, at(tt.seconds)), tt.column)); diff != "" {
			t.Errorf("%s of %s after %d s: %s", tt.column, tt.set, tt.seconds, diff)
		}
	}
}
