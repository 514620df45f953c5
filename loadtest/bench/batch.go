package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/platform/pause"
	"sluice/loadtest/target"
	"sluice/loadtest/workload"
)

// batchModel is the model that answers files, and batchWidth the numbers in one of its rows.
const (
	batchModel = "mid_mlp"
	batchWidth = 784
)

// measureBatch compares batches of files with the runtime called from Go, at its best
// batch size on all cores, in turns, and looks at the server's memory meanwhile.
func measureBatch(ctx context.Context, b *bench) error {
	f, err := b.newFiler(ctx, "batch")
	if err != nil {
		return err
	}
	defer f.server.Stop() //nolint:errcheck // what is measured is over
	ctx, stop := pause.Beat(ctx, 50*time.Millisecond, f.noteMemory)
	defer stop()
	for _, c := range []struct {
		goal, format string
		rows         int
		write        func(io.Writer, int) error
	}{
		{"batch_parquet", "parquet", 1_000_000, writeParquet},
		{"batch_csv", "csv", 200_000, writeCSV},
	} {
		if b.short {
			c.rows /= 25
		}
		if err := f.compare(ctx, c.goal, c.format, c.rows, c.write); err != nil {
			return fmt.Errorf("%s: %w", c.format, err)
		}
	}
	b.report.line("resident memory of the server, at most: %.0f MB", float64(f.peak.Load())/1e6)
	b.report.set("batch_memory", float64(f.peak.Load())/1e6)
	return nil
}

// newFiler starts a server with only the model that answers files.
func (b *bench) newFiler(ctx context.Context, name string) (*filer, error) {
	repository := filepath.Join(b.dir, name+"-models")
	if err := os.CopyFS(filepath.Join(repository, batchModel), os.DirFS(modelDir(batchModel))); err != nil {
		return nil, err
	}
	s, err := b.start(ctx, name, repository, filepath.Join(b.dir, name+"-data"))
	return &filer{bench: b, server: s}, err
}

// filer runs batches on a server.
type filer struct {
	*bench
	server *target.Sluice
	peak   atomic.Int64 // resident memory, bytes
	upload string       // the last

	accepted atomic.Int64 // batches beside requests
}

// noteMemory keeps the most memory that the server had.
func (f *filer) noteMemory(context.Context) error {
	if n, err := f.server.RSS(); err == nil { // one that has ended fails elsewhere
		f.peak.Store(max(f.peak.Load(), n))
	}
	return nil
}

// compare measures raw, a file, and raw again.
func (f *filer) compare(ctx context.Context, goal, format string, rows int, write func(io.Writer, int) error) error {
	path := filepath.Join(f.dir, "rows."+format)
	bytes, err := writeFile(path, rows, write)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	if f.upload, err = f.send(ctx, path, bytes); err != nil {
		return err
	}
	var ratios, cpus []float64
	for range min(f.rounds(), 3) {
		before, size, err := f.raw(ctx)
		if err != nil {
			return err
		}
		cpu, err := f.server.CPU()
		if err != nil {
			return err
		}
		profile := f.profile(ctx, f.server, "batch-"+format, 4*time.Second)
		took, err := f.answer(ctx, format, rows)
		if err != nil {
			return err
		}
		used, err := f.server.CPU()
		if err != nil {
			return err
		}
		if err := profile(); err != nil {
			return err
		}
		after, _, err := f.raw(ctx)
		if err != nil {
			return err
		}
		raw := (before.rate + after.rate) / 2
		rate := float64(rows) / took.Seconds()
		perRow := (used - cpu) / time.Duration(rows)
		ratios = append(ratios, rate/raw)
		cpus = append(cpus, float64((before.perRow+after.perRow)/2)/float64(perRow))
		f.report.line("%-8s %d rows, %.0f MB: %.0f rows/s from the acceptance to the end, raw %.0f rows/s at %d rows a run, ratio %.3f; CPU %.1f us a row, raw %.1f us, ratio %.3f",
			format, rows, float64(bytes)/1e6, rate, raw, size, rate/raw, micros(perRow), micros((before.perRow+after.perRow)/2), cpus[len(cpus)-1])
	}
	f.report.set(goal, median(ratios))
	return nil
}

// rawCost is what rows cost the runtime alone.
type rawCost struct {
	rate   float64 // rows per second on all cores
	perRow time.Duration
}

// raw measures the runtime on as many goroutines as there are cores at several
// batch sizes, and returns the best.
func (f *filer) raw(ctx context.Context) (best rawCost, size int, err error) {
	base, err := f.models.Baseline(ctx, batchModel)
	if err != nil {
		return best, 0, err
	}
	for _, n := range []int{32, 64, 128, 256, 512} {
		began := time.Now()
		cost, err := base.Measure(ctx, workload.Inputs(base.Signature.Inputs, n, workload.Tokens, 1), n, runtime.GOMAXPROCS(0), f.span(time.Second))
		if err != nil {
			return best, 0, err
		}
		if rate := float64(cost.Latency.Count()*uint64(n)) / time.Since(began).Seconds(); rate > best.rate {
			best, size = rawCost{rate, cost.PerRow}, n
		}
	}
	return best, size, nil
}

// writeFile writes a file of so many rows.
func writeFile(path string, rows int, write func(io.Writer, int) error) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	if err := write(out, rows); err != nil {
		return 0, err
	}
	if err := out.Flush(); err != nil {
		return 0, err
	}
	info, err := file.Stat()
	return info.Size(), err
}

// pixel is an element of a row, and makes every row another.
func pixel(row, column int) float32 {
	h := uint32(row*batchWidth+column) * 2654435761
	return float32(h>>24) / 256
}

type parquetRow struct {
	X []float32 `parquet:"input"`
}

func writeParquet(out io.Writer, rows int) error {
	w := parquet.NewGenericWriter[parquetRow](out, parquet.MaxRowsPerRowGroup(20_000))
	batch := make([]parquetRow, 100)
	for i := range batch {
		batch[i].X = make([]float32, batchWidth)
	}
	for row := 0; row < rows; row += len(batch) {
		for i := range batch {
			for j := range batch[i].X {
				batch[i].X[j] = pixel(row+i, j)
			}
		}
		if _, err := w.Write(batch[:min(len(batch), rows-row)]); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeCSV(out io.Writer, rows int) error {
	var line []byte
	for row := -1; row < rows; row++ {
		line = line[:0]
		for j := range batchWidth {
			if j > 0 {
				line = append(line, ',')
			}
			if row < 0 {
				line = strconv.AppendInt(append(line, 'p'), int64(j), 10)
			} else {
				line = strconv.AppendFloat(line, float64(pixel(row, j)), 'g', -1, 32)
			}
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// call sends a request to the API and reads its answer into v.
func (f *filer) call(ctx context.Context, method, path string, header map[string]string, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.server.HTTP+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %.300s", method, path, res.Status, text)
	}
	if err != nil || len(text) == 0 {
		return err
	}
	return json.Unmarshal(text, v)
}

// send uploads a file in pieces, and returns the upload's id.
func (f *filer) send(ctx context.Context, path string, size int64) (string, error) {
	var up struct{ ID string }
	if err := f.call(ctx, http.MethodPost, "/v1/uploads", nil, bytes.NewReader([]byte(`{"content_type":"application/octet-stream"}`)), &up); err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	const piece = 32 << 20
	for offset := int64(0); offset < size; offset += piece {
		last := "?0"
		if offset+piece >= size {
			last = "?1"
		}
		header := map[string]string{"Content-Type": "application/partial-upload", "Upload-Offset": strconv.FormatInt(offset, 10), "Upload-Complete": last}
		if err := f.call(ctx, http.MethodPatch, "/v1/uploads/"+up.ID, header, io.LimitReader(file, piece), new(any)); err != nil {
			return "", err
		}
	}
	return up.ID, nil
}

// submitted is a batch as the API shows it.
type submitted struct {
	ID, Status  string
	CreatedAt   time.Time      `json:"created_at"`
	CompletedAt time.Time      `json:"completed_at"`
	Counts      map[string]int `json:"row_counts"`
}

// submit submits the last upload as a batch.
func (f *filer) submit(ctx context.Context, format string) (v submitted, err error) {
	body := fmt.Sprintf(`{"input":{"upload_id":%q},"format":%q,"model":%q,"output":{"format":"csv"}}`, f.upload, format, batchModel)
	err = f.call(ctx, http.MethodPost, "/v1/batches", nil, bytes.NewReader([]byte(body)), &v)
	return v, err
}

// stages notes how long a batch was in each state, and how many cores the server used meanwhile.
type stages struct {
	server *target.Sluice
	state  string
	since  time.Time
	cpu    time.Duration // of the server, until then
	text   strings.Builder
}

// see notes the state that the batch is in now.
func (s *stages) see(state string) error {
	if state == s.state {
		return nil
	}
	now := time.Now()
	cpu, err := s.server.CPU()
	if s.state != "" {
		took := now.Sub(s.since)
		fmt.Fprintf(&s.text, "%s %.2f s on %.2f cores; ", s.state, took.Seconds(), float64(cpu-s.cpu)/float64(took))
	}
	s.state, s.since, s.cpu = state, now, cpu
	return err
}

func (s *stages) String() string { return strings.TrimSuffix(s.text.String(), "; ") }

// answer runs a batch of the last upload, and returns how long that took.
func (f *filer) answer(ctx context.Context, format string, rows int) (time.Duration, error) {
	v, err := f.submit(ctx, format)
	all := stages{server: f.server}
	for err == nil && v.CompletedAt.IsZero() {
		if err = all.see(v.Status); err == nil {
			time.Sleep(20 * time.Millisecond)
			err = f.call(ctx, http.MethodGet, "/v1/batches/"+v.ID, nil, nil, &v)
		}
	}
	if err == nil {
		err = all.see("")
	}
	if err != nil {
		return 0, err
	}
	f.report.line("%-8s %s", format, &all)
	if v.Counts["succeeded"] != rows {
		return 0, fmt.Errorf("the batch is %s with %v, want %d rows that succeeded", v.Status, v.Counts, rows)
	}
	return v.CompletedAt.Sub(v.CreatedAt), nil
}
