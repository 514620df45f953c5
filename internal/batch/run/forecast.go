package run

import (
	"math"
	"sync"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/spare"
)

// Pace is how fast a process's model answers rows, as measured; zero where that is
// not known.
type Pace struct {
	Row      float64 // nanoseconds of one row's share in a run of the best size
	Parallel int     // runs at a time
	Spread   float64 // of slow runs over common ones
}

// What a row costs beside its runs, in nanoseconds of a core: for each byte of the file,
// read twice, and for its results.
var reading = map[ingest.Format]float64{ingest.CSV: 12, ingest.JSONL: 16, ingest.Parquet: 4, ingest.Arrow: 4, ingest.XLSX: 400}

const (
	writing = 1500.0
	// begin is from the acceptance of a batch until its first chunk is run, and from
	// its last until its end.
	begin = time.Second
	// doubt is what slow batches take more than common ones, before any was run.
	doubt = 1.5
)

// Forecasts say how long batches will take, by what models' runs were measured to
// take, and by how wrong that was of the batches before. It is safe for concurrent use.
type Forecasts struct {
	mu     sync.Mutex
	models map[string]*calibration
}

// calibration is what batches of a model took over what was expected.
type calibration struct{ ratio, away float64 } // mean, and mean distance from it

// maxModels is how many calibrations are kept.
const maxModels = 1024

// NewForecasts returns forecasts that have seen nothing.
func NewForecasts() *Forecasts { return &Forecasts{models: map[string]*calibration{}} }

// Quote says what a file of so many rows and bytes will take, while ahead rows of
// others have their turns. It is nil where the model's pace is not known.
func (f *Forecasts) Quote(m *Model, model string, format ingest.Format, rows, bytes, ahead int64) *job.Quote {
	if m.Pace.Row <= 0 || rows <= 0 {
		return nil
	}
	beside := writing + reading[format]*float64(bytes)/float64(rows)
	row := max(m.Pace.Row/float64(max(m.Pace.Parallel, 1)), (m.Pace.Row+beside)/float64(spare.Cores()))
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.of(model)
	return &job.Quote{Rows: rows, Ahead: min(ahead, rows), Begin: begin, Compute: m.Pace.Row, Plain: row,
		Row: row * c.ratio, Slow: row * max(c.ratio*max(m.Pace.Spread, 1), c.ratio+2*c.away)}
}

// of returns a model's calibration.
func (f *Forecasts) of(model string) *calibration {
	if c := f.models[model]; c != nil {
		return c
	}
	return &calibration{1, (doubt - 1) / 2}
}

// Learn compares what a batch took with its quote, and returns the ratio; 0 for one
// that tells nothing.
func (f *Forecasts) Learn(b *job.Batch) float64 {
	q := b.Quote
	if q == nil || b.Status != job.Completed || b.Retries > 0 || b.StartedAt.IsZero() || b.Since.After(b.StartedAt) || q.Plain <= 0 || b.Counts.Total == 0 {
		return 0
	}
	// What is begun with is longer than it takes, and short batches tell nothing.
	took := b.CompletedAt.Sub(b.StartedAt).Seconds()
	if took < begin.Seconds() {
		return 0
	}
	rows := float64(b.Counts.Total + min(q.Ahead, b.Counts.Total))
	ratio := min(max(took*1e9/(rows*q.Plain), 1.0/16), 64)
	const weight = 0.3
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.of(b.Model)
	c.away += weight * (math.Abs(ratio-c.ratio) - c.away)
	c.ratio += weight * (ratio - c.ratio)
	if _, known := f.models[b.Model]; known || len(f.models) < maxModels {
		f.models[b.Model] = c
	}
	return took / q.Duration(b.Counts.Total).Seconds()
}
