package main

import (
	"path/filepath"
	"testing"
	"time"

	"sluice/cmd/internal/exports"
	"sluice/internal/batch/encode"
	"sluice/internal/batch/export"
	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob/fsblob"
	"sluice/internal/platform/repo"
)

// Workers run the exports that others ask for, be they without models.
func TestExports(t *testing.T) {
	f := newFleet(t)
	if err := f.store.Driver().Migrate(t.Context(), []*repo.Schema{export.Exports.Schema()}); err != nil {
		t.Fatal(err)
	}
	bucket, err := fsblob.Open(filepath.Join(t.TempDir(), "blobs"), fsblob.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	s, err := export.New(f.store, f.bus, bucket, exports.Datasets(f.store, nil), export.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.start(t, "--job-concurrency=0")
	}
	for range 5 {
		f.submit(t, "iris", flower)
	}
	ctx := access.With(t.Context(), &access.Principal{Tenant: access.DefaultTenant, Subject: "key_1", Permissions: access.SetOf(export.Read, export.Write, job.Read)})
	asOf := time.Now()
	files := map[string]int{}
	for range 6 {
		e, err := s.Create(ctx, export.Create{Request: export.Request{Dataset: "jobs", Format: encode.CSV, AsOf: asOf}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "an export ends", func() bool {
			now, err := s.Find(ctx, e.ID)
			if err != nil || now.Status == export.Failed {
				t.Fatal(err, now)
			}
			if now.Status == export.Completed {
				files[now.Parts[0].SHA256] += int(now.Progress.Rows)
			}
			return now.Status == export.Completed
		})
	}
	if len(files) != 1 || files[""] != 0 {
		t.Errorf("%v: one file with 5 rows was expected, 6 times", files)
	}
	for _, rows := range files {
		if rows != 30 {
			t.Errorf("%d rows, not 6 times 5", rows)
		}
	}
}
