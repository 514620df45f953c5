package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/crash/stores"
)

// batches kills processes at random times while they answer files of rows and write
// exports, and compares what is left with what an undisturbed run leaves.
func batches(ctx context.Context, s *settings) (err error) {
	b, err := newBatchBed(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	ctx, cancel := context.WithTimeout(ctx, pick(s, 4*time.Minute, 40*time.Minute))
	defer cancel()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.undisturbed(ctx); err != nil {
		return err
	}
	began := time.Now()
	for n := range pick(s, 2, 20) {
		if err := b.submit(ctx, n); err != nil {
			return err
		}
	}
	if err := b.strike(ctx); err != nil {
		return err
	}
	if left := b.left(); len(left) > 0 {
		return failed(append(b.tally.problems, left...))
	}
	took := time.Since(began)
	b.logf("%d files of %d rows and %d exports in %.0f s; %d processes were killed: %s", len(b.runs), b.rows(), len(b.exports), took.Seconds(), b.kills(), b.ends())
	problems := append(append(b.tally.problems, b.compare(ctx)...), b.compareExports(ctx)...)
	found, err := b.ledgers(ctx)
	if err != nil {
		return err
	}
	problems = append(problems, found...)
	if found, err = b.orphans(ctx, 30*time.Second); err != nil {
		return err
	}
	problems = append(problems, found...)
	if err := b.endAll(); err != nil {
		problems = append(problems, err.Error())
	}
	return failed(problems)
}

// rows is how many rows a file has.
func (b *batchBed) rows() int { return pick(b.settings, 30_000, 100_000) }

// file is a file of rows, some of which are bad or have the name of another.
func (b *batchBed) file(n int) []byte {
	var text bytes.Buffer
	text.WriteString("id,a,b,c,d\n")
	for i := range b.rows() {
		id, a := i, fmt.Sprintf("%.4f", b.rng.Float64()*8)
		switch {
		case i%997 == 996:
			a = "none"
		case i%1009 == 1008:
			id = i - 1
		}
		fmt.Fprintf(&text, "r%d-%d,%s,%d,%.3f,%d\n", n, id, a, b.rng.IntN(5), b.rng.Float64(), i%3)
	}
	return text.Bytes()
}

// asked is a batch or an export that was asked for, and that somebody waits for.
type asked struct {
	kind  int
	id    string
	ended bool
}

// shownBatch is what is shown of a batch.
type shownBatch struct {
	ID, Status string
	Counts     map[string]int `json:"row_counts"`
	Results    struct{ SHA256 string }
	Error      struct{ Code, Message string }
}

// fileKinds is the number of ways in which files are answered.
const fileKinds = 2

// undisturbed has each kind answered while nothing happens.
func (b *batchBed) undisturbed(ctx context.Context) error {
	for kind := range fileKinds {
		upload, err := b.upload(ctx, b.file(kind))
		if err != nil {
			return err
		}
		b.uploads = append(b.uploads, upload)
		began := time.Now()
		id, err := b.ask(ctx, kind, "quiet")
		if err != nil {
			return err
		}
		shown, err := b.wait(ctx, id)
		if err != nil {
			return err
		}
		body, err := b.get(ctx, "/v1/batches/"+id+"/results")
		if err != nil {
			return err
		}
		if shown.Status != "completed" || shown.Counts["failed"] == 0 || shown.Counts["succeeded"] < b.rows()*9/10 {
			return fmt.Errorf("the undisturbed batch is %+v", shown)
		}
		b.logf("undisturbed: %d rows in %.1f s", b.rows(), time.Since(began).Seconds())
		b.want = append(b.want, expected{shown: shown, content: body})
	}
	return b.undisturbedExports(ctx)
}

// expected is what an undisturbed run leaves.
type expected struct {
	shown   shownBatch
	content []byte
}

// submit has a file answered.
func (b *batchBed) submit(ctx context.Context, n int) error {
	kind := n % fileKinds
	id, err := b.ask(ctx, kind, strconv.Itoa(n))
	b.runs = append(b.runs, asked{kind: kind, id: id})
	return err
}

func (b *batchBed) ask(ctx context.Context, kind int, key string) (id string, err error) {
	body := map[string]any{"input": map[string]any{"upload_id": b.uploads[kind]}, "format": "csv", "model": "mlp", "row_id": "id",
		"columns": map[string]any{"x": []string{"a", "b", "c", "d"}}, "output": map[string]any{"format": []string{"csv", "jsonl"}[kind], "include_input": []string{"b"}}}
	return b.made(ctx, "/v1/batches", fmt.Sprintf("batch-%d-%s", kind, key), body)
}

// killsPerExport is after how many killings another export is begun, so that there is
// mostly one to be hurt.
const killsPerExport = 3

// strike kills one process after the other, and then waits for what has not ended.
func (b *batchBed) strike(ctx context.Context) error {
	least, last := pick(b.settings, 6, 60), time.Now()
	for n := 0; n < least || time.Since(last) < pick(b.settings, time.Minute, 10*time.Minute); n++ {
		pause := 300*time.Millisecond + time.Duration(b.rng.Int64N(int64(pick(b.settings, 1200*time.Millisecond, 3*time.Second))))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		done, err := b.looked(ctx)
		switch {
		case err != nil, done && n >= least:
			return err
		case n >= least:
			continue // they have to come to an end
		}
		for b.open() < 2 { // there is always something to be hurt, and less than there are workers
			if err := b.submit(ctx, len(b.runs)); err != nil {
				return err
			}
		}
		if n%killsPerExport == 0 {
			if err := b.submitExport(ctx, len(b.exports)); err != nil {
				return err
			}
		}
		last = time.Now()
		victims := b.all()
		if err := victims[b.rng.IntN(len(victims))].hurt(syscall.SIGKILL); err != nil {
			b.logf("a process had ended before it could be killed: %v", err)
		}
	}
	return nil
}

// open is how many batches have not ended.
func (b *batchBed) open() (n int) {
	for _, r := range b.runs {
		if !r.ended {
			n++
		}
	}
	return n
}

// left are those that have not ended.
func (b *batchBed) left() (problems []string) {
	for _, r := range slices.Concat(b.runs, b.exports) {
		if !r.ended {
			problems = append(problems, "not ended: "+r.id)
		}
	}
	return problems
}

// looked looks at all batches and exports, and says whether they have ended.
func (b *batchBed) looked(ctx context.Context) (bool, error) {
	all := true
	for i := range b.runs {
		r := &b.runs[i]
		if r.ended {
			continue
		}
		shown, err := b.batch(ctx, r.id)
		if err != nil {
			return false, err
		}
		r.ended = finished(shown.Status)
		all = all && r.ended
	}
	exported, err := b.lookedExports(ctx)
	return all && exported, err
}

func finished(status string) bool {
	return slices.Contains([]string{"completed", "failed", "cancelled", "expired"}, status)
}

// batch reads a batch, whose rows always sum up.
func (b *batchBed) batch(ctx context.Context, id string) (shown shownBatch, err error) {
	if err := b.read(ctx, "/v1/batches/"+id, &shown); err != nil {
		return shown, err
	}
	sum := 0
	for name, n := range shown.Counts {
		if name != "total" {
			sum += n
		}
	}
	if sum != shown.Counts["total"] {
		b.tally.wrong("sums: the rows of %s, which is %s, are %v", id, shown.Status, shown.Counts)
	}
	return shown, nil
}

// compare compares what was made with what an undisturbed run makes.
func (b *batchBed) compare(ctx context.Context) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, r := range b.runs {
		want := &b.want[r.kind]
		shown, err := b.batch(ctx, r.id)
		if err != nil {
			wrong("%s cannot be read: %v", r.id, err)
			continue
		}
		if shown.Status != want.shown.Status || fmt.Sprint(shown.Counts) != fmt.Sprint(want.shown.Counts) {
			wrong("other counts: %s is %s with %v, %+v, undisturbed %v", r.id, shown.Status, shown.Counts, shown.Error, want.shown.Counts)
		}
		content, err := b.get(ctx, "/v1/batches/"+r.id+"/results")
		if err != nil || !bytes.Equal(content, want.content) || shown.Results.SHA256 != want.shown.Results.SHA256 {
			wrong("other bytes: the results of %s are %d bytes, undisturbed %d, %v", r.id, len(content), len(want.content), err)
		}
	}
	return problems
}

// ledgers looks at the ledgers in the store: how many chunks were begun again, and
// whether each row was counted once.
func (b *batchBed) ledgers(ctx context.Context) (problems []string, err error) {
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	again, chunks := 0, 0
	err = s.Records(ctx, "batches", func(r stores.Record) error {
		var doc struct {
			Chunks []struct {
				Fence int `json:"f"`
			} `json:"chunks"`
			Counts struct{ Succeeded int }
			Used   struct{ Rows int }
			Reused int
		}
		if err := json.Unmarshal(r.Doc, &doc); err != nil {
			return err
		}
		for _, c := range doc.Chunks {
			chunks++
			again += max(c.Fence-1, 0)
		}
		if doc.Used.Rows+doc.Reused != doc.Counts.Succeeded {
			problems = append(problems, fmt.Sprintf("not counted once: %s has %d rows that succeeded, and %d were counted, %d reused", r.ID, doc.Counts.Succeeded, doc.Used.Rows, doc.Reused))
		}
		return nil
	})
	b.logf("%d of %d chunks were begun again", again, chunks)
	if kills := b.kills(); again > kills {
		problems = append(problems, fmt.Sprintf("run again: %d chunks, and %d processes were killed, each with one chunk at most", again, kills))
	}
	return problems, err
}

// orphans waits for the sweep, and returns the objects that nothing names.
func (b *batchBed) orphans(ctx context.Context, limit time.Duration) (problems []string, err error) {
	for began := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		left, err := b.unnamed(ctx)
		if err != nil {
			return nil, err
		}
		if len(left) == 0 {
			b.logf("the sweep was done after %.0f s", time.Since(began).Seconds())
			return nil, nil
		}
		if time.Since(began) > limit || ctx.Err() != nil {
			for _, key := range left {
				problems = append(problems, "orphan: no batch or export has the object "+key)
			}
			return problems, ctx.Err()
		}
	}
}

// unnamed are the objects of batches and exports whose names no record has.
func (b *batchBed) unnamed(ctx context.Context) (left []string, err error) {
	s, err := stores.OpenSQLite(b.database())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var docs bytes.Buffer
	for _, kind := range []string{"batches", "exports"} {
		if err := s.Records(ctx, kind, func(r stores.Record) error { docs.Write(r.Doc); return nil }); err != nil {
			return nil, err
		}
	}
	root := filepath.Join(b.dir, "blobs")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		key, isObject := strings.CutSuffix(filepath.ToSlash(path), "%")
		if err != nil || !isObject {
			if errors.Is(err, fs.ErrNotExist) { // it was swept meanwhile
				return nil
			}
			return err
		}
		key = strings.TrimPrefix(key, filepath.ToSlash(root)+"/")
		if parts := strings.Split(key, "/"); len(parts) > 2 && (parts[1] == "batches" || parts[1] == "exports") && !bytes.Contains(docs.Bytes(), []byte(key)) {
			left = append(left, key)
		}
		return nil
	})
	return left, err
}
