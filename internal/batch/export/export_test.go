package export

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/table"
	"sluice/internal/batch/table/sorter"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// An export has every row, in files whose sizes and digests are right, and names
// every object that there is.
func TestExportHasEveryRow(t *testing.T) {
	for _, f := range []encode.Format{encode.CSV, encode.JSONL, encode.Parquet, encode.XLSX} {
		b := newBed(t, 5000, Config{PartSize: 100_000})
		e := b.create(t, Request{Format: f})
		b.run(e.ID)
		e = b.find(t, e.ID)
		if e.Status != Completed || e.Progress.Rows != 5000 || e.Progress.Scanned != 5000 || e.Progress.Percent() != 100 {
			t.Fatalf("%s: %s, %+v, %+v", f, e.Status, e.Progress, e.Failure)
		}
		rows, size := int64(0), int64(0)
		for i, content := range b.files(t, e) {
			p := e.Parts[i]
			if sum := sha256.Sum256(content); int64(len(content)) != p.Bytes || hex.EncodeToString(sum[:]) != p.SHA256 {
				t.Errorf("%s: part %d has %d bytes, not %d, or another digest", f, i, len(content), p.Bytes)
			}
			rows, size = rows+p.Rows, size+p.Bytes
		}
		if rows != 5000 || size != e.Progress.Bytes || len(b.objects(t)) != len(e.Parts) {
			t.Errorf("%s: %d rows, %d bytes, %d objects, %d parts", f, rows, size, len(b.objects(t)), len(e.Parts))
		}
		if f == encode.CSV && len(e.Parts) < 3 {
			t.Errorf("%d parts", len(e.Parts))
		}
	}
}

// However often the process dies, at whatever write: what is published in the end
// is the same, and nothing is left that nobody names once orphans are swept.
func TestDeathsChangeNothing(t *testing.T) {
	calm := newBed(t, 2500, Config{PartSize: 100_000})
	e := calm.create(t, Request{Format: encode.CSV})
	calm.run(e.ID)
	want := calm.files(t, calm.find(t, e.ID))
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t, 2500, Config{PartSize: 100_000})
		e := b.create(t, Request{Format: encode.CSV, AsOf: b.time()})
		for range rapid.IntRange(1, maxTries-1).Draw(rt, "deaths") {
			b.bucket.lives(rapid.IntRange(1, 6).Draw(rt, "writes"))
			b.run(e.ID)
			b.bucket.lives(-1)
			b.pass(2 * lease) // its lease ends
		}
		b.run(e.ID)
		if e = b.find(t, e.ID); e.Status != Completed {
			rt.Fatalf("%s after %d tries: %+v", e.Status, e.Tries, e.Failure)
		}
		if !slices.EqualFunc(b.files(t, e), want, bytes.Equal) {
			rt.Fatal("the files differ from those of a calm run")
		}
		_, err := blob.SweepOrphans(b.ctx, b.bucket, "acme/"+Folder, time.Now().Add(time.Hour), func(ctx context.Context, key string) (bool, error) {
			return Owned(ctx, b.store, "acme", key)
		})
		if err != nil || len(b.objects(t)) != len(e.Parts) {
			rt.Fatalf("%q are left of %d parts, %v", b.objects(t), len(e.Parts), err)
		}
	})
}

// An export that is short fails, and is never complete.
func TestShortExportsFail(t *testing.T) {
	b := newBed(t, 1000, Config{})
	b.things.missing = 1
	e := b.create(t, Request{Format: encode.CSV})
	for range maxTries {
		b.run(e.ID)
		b.pass(time.Minute)
	}
	e = b.find(t, e.ID)
	if e.Status != Failed || e.Failure.Code != "export_short" || len(e.Parts) != 0 || len(b.objects(t)) != 0 {
		t.Errorf("%s %+v, %d objects", e.Status, e.Failure, len(b.objects(t)))
	}
	if _, _, _, err := b.Content(b.ctx, e.ID, 0); fault.CodeOf(err) != "export_failed" {
		t.Error(err)
	}
}

// What cannot be written fails at once, and says why.
func TestWhatCannotBeWritten(t *testing.T) {
	b := newBed(t, 10, Config{})
	b.datasets["things"].Open = func(context.Context, string, Slice) (Scan, error) {
		return nil, fault.New(fault.Unprocessable, "too long").WithCode("text_too_long")
	}
	e := b.create(t, Request{Format: encode.XLSX})
	b.run(e.ID)
	if e = b.find(t, e.ID); e.Status != Failed || e.Tries != 1 || *e.Failure != (Failure{"text_too_long", "too long"}) {
		t.Errorf("%s after %d tries: %+v", e.Status, e.Tries, e.Failure)
	}
}

// A cancelled or deleted export stops its worker, and leaves no object.
func TestCancelStopsTheWorker(t *testing.T) {
	for name, end := range map[string]func(b *bed, id ID) error{
		"cancel": func(b *bed, id ID) error { _, err := b.Cancel(b.ctx, id); return err },
		"delete": func(b *bed, id ID) error { return b.Service.Delete(b.ctx, id) },
	} {
		b := newBed(t, 100_000, Config{PartSize: 64 << 10})
		e := b.create(t, Request{Format: encode.CSV})
		last := 0
		b.things.each = func(_ context.Context, chunk int) {
			b.pass(tellInterval)
			if last = chunk; chunk == 10 {
				if err := end(b, e.ID); err != nil {
					t.Error(err)
				}
			}
		}
		b.run(e.ID)
		if last > 14 || len(b.objects(t)) != 0 {
			t.Errorf("%s: went on to chunk %d, %d objects are left", name, last, len(b.objects(t)))
		}
		if name == "cancel" && b.find(t, e.ID).Status != Cancelled {
			t.Error(b.find(t, e.ID).Status)
		}
	}
}

// A worker that stops in order gives the export back, and that is no try.
func TestStoppedWorkersGiveBack(t *testing.T) {
	b := newBed(t, 5000, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	ctx, cancel := context.WithCancel(context.Background())
	b.things.each = func(_ context.Context, chunk int) {
		if chunk == 2 {
			cancel()
		}
	}
	b.runUntil(ctx, e.ID)
	if e = b.find(t, e.ID); e.Status != Queued || e.Tries != 0 || len(b.objects(t)) != 0 {
		t.Fatalf("%s, %d tries, %d objects", e.Status, e.Tries, len(b.objects(t)))
	}
	b.things.each = nil
	b.run(e.ID)
	if e = b.find(t, e.ID); e.Status != Completed {
		t.Errorf("%s: %+v", e.Status, e.Failure)
	}
}

// A worker that was thought dead publishes nothing.
func TestSlowWorkersAreFenced(t *testing.T) {
	b := newBed(t, 3000, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	again := false
	b.things.each = func(_ context.Context, chunk int) {
		if chunk == 3 && !again {
			again = true
			for b.find(t, e.ID).Attempt == 1 { // a sign of life of the first, just after the step, holds the second off
				b.pass(2 * lease)
				b.run(e.ID)
			}
		}
	}
	b.run(e.ID)
	if e = b.find(t, e.ID); e.Status != Completed || e.Attempt != 2 || len(b.objects(t)) != 1 || b.objects(t)[0] != e.Parts[0].Object {
		t.Errorf("%s by attempt %d, objects %q", e.Status, e.Attempt, b.objects(t))
	}
}

func TestExportsExpire(t *testing.T) {
	b := newBed(t, 10, Config{Keep: time.Hour})
	e := b.create(t, Request{Format: encode.CSV})
	b.run(e.ID)
	b.pass(time.Hour)
	if _, _, _, err := b.Content(b.ctx, e.ID, 0); !fault.Is(err, fault.Gone) {
		t.Error(err)
	}
	if err := b.Remind(b.ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if e = b.find(t, e.ID); e.Status != Expired || len(b.objects(t)) != 0 {
		t.Errorf("%s, %d objects", e.Status, len(b.objects(t)))
	}
}

// Who may export may not export what they may not see.
func TestPermissions(t *testing.T) {
	b := newBed(t, 10, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	b.run(e.ID)
	blind := as(t.Context(), "acme", Read, Write)
	r := Request{Dataset: "things", Format: encode.CSV}
	_, create := b.Create(blind, Create{Request: r})
	_, preview := b.Preview(blind, r)
	_, _, _, download := b.Content(blind, e.ID, 0)
	for i, err := range []error{create, preview, download} {
		if !fault.Is(err, fault.PermissionDenied) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, _, _, err := b.Content(as(t.Context(), "rival", Read, Write, canSee), e.ID, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("rival: %v", err)
	}
	if b.things.tenant.Load() != "acme" {
		t.Error("another tenant was scanned")
	}
}

func TestQuota(t *testing.T) {
	b := newBed(t, 10, Config{MaxActive: 2, MaxExports: 3})
	r := Request{Dataset: "things", Format: encode.CSV}
	var first ID
	for i, want := range []string{"", "", "export_quota", "", "export_quota"} {
		e, err := b.Create(b.ctx, Create{Request: r})
		if fault.CodeOf(err) != want {
			t.Fatalf("export %d: %v, want %q", i, err, want)
		}
		switch i {
		case 0:
			first = e.ID
		case 2: // room for one more
			b.run(first)
		}
	}
}

func TestPreview(t *testing.T) {
	b := newBed(t, 5000, Config{})
	r := Request{Dataset: "things", Format: encode.CSV, Columns: []string{"rows", "id"}, Filters: []Filter{{"country", "eq", json.RawMessage(`"DE"`)}}}
	sample, err := b.Preview(b.ctx, r)
	if err != nil || sample.Rows.Rows() != SampleRows || !sample.More || sample.Rows.Schema()[1].Name != "id" {
		t.Fatal(sample, err)
	}
	b.things.rows = 30
	if sample, err = b.Preview(b.ctx, r); err != nil || sample.Rows.Rows() != 6 || sample.More {
		t.Errorf("%d rows, %v, %v", sample.Rows.Rows(), sample.More, err)
	}
}

// Filters let through what the same conditions in Go do, and columns come in the
// order that was asked for.
func TestFiltersAndColumns(t *testing.T) {
	b := newBed(t, 3000, Config{})
	after := time.Unix(1_790_001_000, 0).UTC()
	e := b.create(t, Request{Format: encode.CSV, Columns: []string{"rows", "country", "id"}, Filters: []Filter{
		{"rows", "ge", json.RawMessage("500")}, {"country", "ne", json.RawMessage(`"DE"`)}, {"cached", "eq", json.RawMessage("true")},
		{"score", "lt", json.RawMessage("0.75")}, {"created_at", "gt", json.RawMessage(`"` + after.Format(time.RFC3339) + `"`)}, {"id", "not_null", nil},
	}})
	b.run(e.ID)
	e = b.find(t, e.ID)
	var want [][]string
	c := table.NewChunk(tabletest.Plain)
	tabletest.FillPlain(c, 0, 3000)
	for _, row := range tabletest.Rows(c) {
		if row[6].(int64) >= 500 && row[8] != "DE" && row[7].(bool) && row[5].(float64) < 0.75 && row[3].(time.Time).After(after) {
			want = append(want, []string{fmt.Sprint(row[6]), row[8].(string), row[0].(string)})
		}
	}
	got, err := csv.NewReader(bytes.NewReader(b.files(t, e)[0])).ReadAll()
	if err != nil || len(want) == 0 || len(want) == 3000 || !slices.EqualFunc(got[1:], want, slices.Equal) {
		t.Errorf("%d rows, want %d, %v", len(got)-1, len(want), err)
	}
	if e.Progress.Scanned != 3000 || e.Progress.Rows != int64(len(want)) {
		t.Errorf("%+v", e.Progress)
	}
}

// A sorted export has the rows in their order, over all files; a sorted preview the
// first of all, or it is refused.
func TestSort(t *testing.T) {
	by := []Sort{{"country", true}, {"score", false}, {"id", false}}
	b := newBed(t, 3000, Config{PartSize: 50_000, Sort: sorter.Config{Memory: 10_000, Dir: t.TempDir()}})
	r := Request{Dataset: "things", Format: encode.CSV, Columns: []string{"id", "country", "score"}, Sort: by}
	e := b.create(t, r)
	b.run(e.ID)
	e = b.find(t, e.ID)
	var got [][]string
	for _, file := range b.files(t, e) {
		rows, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rows[1:]...)
	}
	if len(got) != 3000 || len(e.Parts) < 2 || !slices.IsSortedFunc(got, func(x, y []string) int {
		a, _ := strconv.ParseFloat(x[2], 64)
		b, _ := strconv.ParseFloat(y[2], 64)
		return cmp.Or(-cmp.Compare(x[1], y[1]), cmp.Compare(a, b), cmp.Compare(x[0], y[0]))
	}) {
		t.Errorf("%d rows in %d files, or not sorted", len(got), len(e.Parts))
	}
	sample, err := b.Preview(b.ctx, r)
	if err != nil || sample.Rows.Rows() != SampleRows || !sample.More || string(sample.Rows.Column(0).Text(0)) != got[0][0] || string(sample.Rows.Column(0).Text(99)) != got[99][0] {
		t.Error("the preview is not the first rows", err)
	}
	b.things.rows = sampleScan + 1
	if _, err := b.Preview(b.ctx, r); fault.CodeOf(err) != "preview_unsorted" {
		t.Error(err)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	b := newBed(t, 10, Config{})
	at := func(h int) time.Time { return b.time().Add(time.Duration(h) * time.Hour) }
	for code, r := range map[string]Request{
		"dataset_unknown":   {Dataset: "nothings"},
		"column_unknown":    {Columns: []string{"x"}},
		"table_invalid":     {Columns: []string{"id", "id"}},
		"range_invalid":     {From: at(-1), To: at(-2)},
		"range_invalid ":    {AsOf: at(1)},
		"time_zone_unknown": {Options: Options{TimeZone: "Local"}},
		"option_invalid":    {Options: Options{Delimiter: "ab"}},
		"option_invalid ":   {Options: Options{Decimal: ","}},
		"format_unknown":    {Format: "doc"},
		"filter_invalid":    {Filters: []Filter{{"rows", "like", nil}}},
		"filter_invalid ":   {Filters: []Filter{{"rows", "eq", json.RawMessage("1.5")}}},
		"filter_invalid  ":  {Filters: []Filter{{"id", "eq", nil}}},
		"filter_invalid   ": {Filters: make([]Filter, MaxFilters+1)},
		"sort_invalid":      {Columns: []string{"id"}, Sort: []Sort{{"rows", false}}},
		"sort_invalid ":     {Sort: []Sort{{"id", false}, {"id", true}}},
		"sort_invalid  ":    {Sort: make([]Sort, MaxSort+1)},
		"column_unknown ":   {Filters: []Filter{{"x", "eq", json.RawMessage("1")}}},
	} {
		if r.Dataset == "" {
			r.Dataset = "things"
		}
		if r.Format == "" {
			r.Format = encode.CSV
		}
		_, err := b.Create(b.ctx, Create{Request: r})
		if want := string(bytes.TrimSpace([]byte(code))); fault.CodeOf(err) != want || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
