package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/access"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
	"sluice/loadtest/crash/stores"
)

// exportKinds are what exports are made of: two of as many rows as a file has, one of which
// is sorted, and a short one.
var exportKinds = []map[string]any{
	{"dataset": "usage", "format": "csv", "sort": []map[string]any{{"column": "rows"}, {"column": "model"}}},
	{"dataset": "usage", "format": "jsonl", "options": map[string]any{"compression": "gzip"}},
	{"dataset": "audit_entries", "format": "csv"},
}

// seed puts as many hours of usage into the store as a file has rows.
func (b *batchBed) seed(ctx context.Context) (err error) {
	d, err := sqliterepo.Open(ctx, "sqlite:"+b.database(), sqliterepo.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Migrate(ctx, []*repo.Schema{usage.Totals.Schema()}); err != nil {
		return err
	}
	const models, step = 20, 1000
	store, first := repo.New(d, repo.Config{}), time.Now().UTC().Truncate(time.Hour).Add(-time.Duration(b.rows()/models+24)*time.Hour)
	for n := 0; n < b.rows(); n += step {
		err := store.Do(ctx, repo.Scope{Tenant: access.DefaultTenant, Actor: "seed"}, func(ctx context.Context, tx *repo.Tx) error {
			for i := n; i < min(n+step, b.rows()); i++ {
				t := &usage.Total{Hour: first.Add(time.Duration(i/models) * time.Hour)}
				t.ID = usage.ID(fmt.Sprintf("seed-%07d", i))
				t.Used.What = usage.What{Model: fmt.Sprint("model ", i%models), Version: "1", Mode: usage.Online}
				t.Used.Amount = usage.Amount{Requests: int64(i), Rows: int64(i) * 7919 % 10007}
				if err := usage.Totals.Add(ctx, tx, t); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shownExport is what is shown of an export.
type shownExport struct {
	ID, Status string
	Rows       int
	SHA256     string
	Parts      []struct {
		Rows   int
		SHA256 string
	}
	Error struct{ Code, Message string }
}

// digest is what an export's files are.
func (e *shownExport) digest() string {
	return fmt.Sprintf("%s %d rows %s, parts %v %s", e.Status, e.Rows, e.SHA256, e.Parts, e.Error.Code)
}

// undisturbedExports has each kind exported while nothing happens.
func (b *batchBed) undisturbedExports(ctx context.Context) error {
	b.asOf = time.Now().UTC()
	for behind := unlogged(b.database()); ; time.Sleep(100 * time.Millisecond) { // until the audit log has everything before
		if n, err := behind(ctx); n == 0 || err != nil || ctx.Err() != nil {
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			break
		}
	}
	for kind := range exportKinds {
		began := time.Now()
		id, err := b.export(ctx, kind, "quiet")
		if err != nil {
			return err
		}
		e, err := b.exported(ctx, id)
		if err != nil {
			return err
		}
		if e.Status != "completed" || e.Rows == 0 {
			return fmt.Errorf("the undisturbed export is %+v", e)
		}
		b.logf("undisturbed: %d rows exported in %.1f s", e.Rows, time.Since(began).Seconds())
		b.wantExports = append(b.wantExports, e.digest())
	}
	return nil
}

// submitExport begins an export.
func (b *batchBed) submitExport(ctx context.Context, n int) error {
	kind := n % len(exportKinds)
	id, err := b.export(ctx, kind, strconv.Itoa(n))
	b.exports = append(b.exports, asked{kind: kind, id: id})
	return err
}

func (b *batchBed) export(ctx context.Context, kind int, key string) (id string, err error) {
	body := map[string]any{"as_of": b.asOf.Format(time.RFC3339Nano)}
	for name, value := range exportKinds[kind] {
		body[name] = value
	}
	return b.made(ctx, "/v1/exports", fmt.Sprintf("export-%d-%s", kind, key), body)
}

// exported waits for the end of an export.
func (b *batchBed) exported(ctx context.Context, id string) (e shownExport, err error) {
	for err == nil && ctx.Err() == nil {
		if err = b.read(ctx, "/v1/exports/"+id, &e); finished(e.Status) {
			return e, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return e, errors.Join(err, ctx.Err())
}

// lookedExports looks at all exports, and says whether they have ended.
func (b *batchBed) lookedExports(ctx context.Context) (bool, error) {
	all := true
	for i := range b.exports {
		r := &b.exports[i]
		if r.ended {
			continue
		}
		var e shownExport
		if err := b.read(ctx, "/v1/exports/"+r.id, &e); err != nil {
			return false, err
		}
		r.ended = finished(e.Status)
		all = all && r.ended
	}
	return all, nil
}

// compareExports compares them with what an undisturbed run makes, and says how many
// attempts they took.
func (b *batchBed) compareExports(ctx context.Context) (problems []string) {
	for _, r := range b.exports {
		if e, err := b.exported(ctx, r.id); err != nil || e.digest() != b.wantExports[r.kind] {
			problems = append(problems, fmt.Sprintf("other bytes: the export %s is %q, undisturbed %q, %v", r.id, e.digest(), b.wantExports[r.kind], err))
		}
	}
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return append(problems, err.Error())
	}
	attempts := -len(exportKinds)
	err = s.Records(ctx, "exports", func(r stores.Record) error {
		var doc struct{ Attempt int }
		err := json.Unmarshal(r.Doc, &doc)
		attempts += doc.Attempt
		return err
	})
	if err = errors.Join(err, s.Close()); err != nil {
		problems = append(problems, err.Error())
	}
	b.logf("%d exports took %d attempts", len(b.exports), attempts)
	return problems
}
