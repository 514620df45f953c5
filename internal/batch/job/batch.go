// Package job has batches: files of rows that a model answers, in chunks, by
// whichever workers come, and as a whole exactly once.
//
// A batch and the ledger of its chunks are one aggregate: what a worker claims, and
// what it has made of a chunk, are commits of it. Every claim has a fence, a number
// that grows: what a worker has made counts only while no later claim was made. Rows are
// counted by the commit that makes a chunk's result its own, so the counts always
// sum, and a crash costs the chunks under way, never one that is done.
//
// Limits: the ledger is read and written whole. Chunks grow with the file so that it has
// some thousand entries at most.
package job

import (
	"bytes"
	"context"
	"math"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/table"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of a batch, batch_….
type ID string

// Prefix is how ids of batches begin.
const Prefix = "batch"

// Status is where a batch is on its way.
type Status string

// The states. The last four are final, save for Retry.
const (
	Validating Status = "validating" // its rows are counted, and cut into chunks
	Running    Status = "in_progress"
	Paused     Status = "paused"
	Finalizing Status = "finalizing" // no row is run any more, the results are summed up
	Cancelling Status = "cancelling" // the same, after Cancel
	Completed  Status = "completed"
	Failed     Status = "failed"
	Cancelled  Status = "cancelled"
	Expired    Status = "expired" // its deadline passed
)

// Final says whether nothing more happens by itself.
func (s Status) Final() bool {
	switch s {
	case Completed, Failed, Cancelled, Expired:
		return true
	}
	return false
}

// Failure is why a batch or a row failed, for its client.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable,omitempty"`
}

// Object is content that a batch owns.
type Object struct {
	Key    string `json:"key"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
	ETag   string `json:"etag,omitempty"` // of the file, which is read only as long as it is the same
}

// Output says what results look like.
type Output struct {
	Format ingest.Format `json:"format"`
	Head   string        `json:"head,omitempty"` // what the results begin with: a header
	// Formats are those that were asked for, in that order; empty: Format alone. What is not
	// Format is made of the parts when the batch ends, whose columns are then Columns.
	Formats []encode.Format `json:"formats,omitempty"`
	Columns table.Schema    `json:"columns,omitempty"`
}

// File is the results in one more format.
type File struct {
	Format  encode.Format `json:"format"`
	Object  Object        `json:"object,omitzero"`
	Failure *Failure      `json:"failure,omitempty"` // why there is none
}

// Counts are how many rows there are in which state. They always sum up to Total.
type Counts struct {
	Total     int64 `json:"total"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Expired   int64 `json:"expired"`
}

// Pending are the rows that are not in any other state.
func (c Counts) Pending() int64 { return c.Total - c.Succeeded - c.Failed - c.Cancelled - c.Expired }

// RowError is why a row failed.
type RowError struct {
	Index   int64  `json:"index"` // of the row in the file, from 0
	Line    int64  `json:"line,omitempty"`
	Column  string `json:"column,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// MaxErrors is how many errors of rows a batch shows itself; all are in a file.
const MaxErrors = 100

// Used is what rows took of a model.
type Used struct {
	Rows        int64 `json:"rows"`
	ComputeUS   int64 `json:"compute_us"` // microseconds of runs, by the share of the rows
	InputBytes  int64 `json:"input_bytes"`
	OutputBytes int64 `json:"output_bytes"`
}

// Add adds another amount.
func (u *Used) Add(o Used) {
	u.Rows += o.Rows
	u.ComputeUS += o.ComputeUS
	u.InputBytes += o.InputBytes
	u.OutputBytes += o.OutputBytes
}

// Batch is one batch.
type Batch struct {
	aggregate.Root[ID]
	Status Status `json:"status"`
	// Ending is the final state that follows Finalizing and Cancelling.
	Ending        Status            `json:"ending,omitempty"`
	Model         string            `json:"model"`
	ModelVersion  string            `json:"model_version"` // the same for all rows
	Input         Object            `json:"input"`
	File          ingest.File       `json:"file"`
	Spec          ingest.Spec       `json:"spec"`
	Output        Output            `json:"output"`
	Stop          bool              `json:"stop,omitempty"`  // with the first row that fails
	MaxErrorRatio float64           `json:"max_error_ratio"` // of failed rows among all, beyond which the batch fails
	Metadata      map[string]string `json:"metadata,omitempty"`
	Deadline      time.Time         `json:"deadline,omitzero"`
	Quote         *Quote            `json:"quote,omitempty"` // nil where nothing was known
	// RunRows is how many rows the model is given at once. It is fixed with the batch, since
	// the last bits of an answer may depend on it; 0: what the process thinks best.
	RunRows int `json:"run_rows,omitempty"`

	Chunks  []Chunk    `json:"chunks,omitempty"`
	Counts  Counts     `json:"counts"`
	Errors  []RowError `json:"errors,omitempty"` // the first, by index
	Used    Used       `json:"used"`
	Reused  int64      `json:"reused,omitempty"` // rows that were answered by the run of an equal one
	Failure *Failure   `json:"failure,omitempty"`
	Files   []File     `json:"files,omitempty"`   // once it is final
	Results *Object    `json:"results,omitempty"` // all parts together, once it is final; without a key where the parts are the content

	Fence       int       `json:"fence,omitempty"` // of who validates or finalizes
	Until       time.Time `json:"until,omitzero"`  // when that one counts as dead
	Tries       int       `json:"tries,omitempty"`
	Cause       string    `json:"cause,omitempty"` // of the last attempt that failed
	Absent      time.Time `json:"absent,omitzero"` // since when no process that came had the model
	Waits       *Waiting  `json:"waits,omitempty"`
	StartedAt   time.Time `json:"started_at,omitzero"` // the first chunk
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Since       time.Time `json:"since,omitzero"` // of the present rate
	Base        int64     `json:"base,omitempty"` // rows that were done then
	Told        int       `json:"told,omitempty"` // percent, by the last event
	Retries     int       `json:"retries,omitempty"`
	// Due is when somebody has to look after it; far in the future while nobody has to.
	Due  time.Time `json:"due"`
	Keep time.Time `json:"keep,omitzero"` // when its results are no more to be had
}

// never is the Due of what needs nobody.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// Batches keeps them.
var Batches = repo.Kind[ID, Batch]{
	Name: "batches", Root: func(b *Batch) *aggregate.Root[ID] { return &b.Root },
	Columns: []spec.Column[Batch]{status, model, due, open, version},
	Expires: (*Batch).forgotten,
	Room: func(b *Batch, text []byte) {
		if n := bytes.Count(text, entry); n > 0 {
			b.Chunks = make([]Chunk, 0, n)
		}
	},
}

// entry is how the JSON of an entry of the ledger begins, and nothing else does: metadata that
// begins with b has a text there.
var entry = []byte(`{"b":{`)

var (
	status  = spec.TextField("status", func(b *Batch) Status { return b.Status })
	model   = spec.TextField("model", func(b *Batch) string { return b.Model })
	due     = spec.TimeField("due", func(b *Batch) time.Time { return b.Due })
	version = spec.TextField("version", func(b *Batch) string { return b.ModelVersion })
	open    = spec.BoolField("open", func(b *Batch) bool { return !b.Status.Final() })
)

// Awaits says whether a batch of the tenant that has not ended is run by a version
// of a model.
func Awaits(ctx context.Context, from repo.Reading, name, number string) (bool, error) {
	rule := spec.And(version.Eq(number), model.Eq(name), open.Eq(true))
	page, err := Batches.Find(ctx, from, spec.Query[Batch]{Where: rule, Limit: 1})
	return len(page.Items) > 0, err
}

// Changed says that a batch is in another state, or has come further.
type Changed struct {
	Status   Status   `json:"status"`
	Model    string   `json:"model"`
	Version  string   `json:"version"`
	Counts   Counts   `json:"row_counts"`
	Pending  int64    `json:"pending"`
	Percent  int      `json:"percent"`
	Rate     float64  `json:"rows_per_s,omitempty"` // of progress, as the next two
	ETA      string   `json:"eta_at,omitempty"`
	Late     bool     `json:"late,omitempty"` // the forecast is behind the deadline
	Progress bool     `json:"-"`
	Failure  *Failure `json:"failure,omitempty"`
}

// EventType implements aggregate.Event: batch.in_progress, batch.progress, batch.completed, ….
func (c Changed) EventType() string {
	if c.Progress {
		return "batch.progress"
	}
	return "batch." + string(c.Status)
}

// Percent is how many of the rows are done.
func (b *Batch) Percent() int {
	if b.Counts.Total == 0 {
		if b.Status.Final() {
			return 100
		}
		return 0
	}
	return int((b.Counts.Total - b.Counts.Pending()) * 100 / b.Counts.Total)
}

func (b *Batch) changed() Changed {
	b.Told = b.Percent()
	return Changed{Status: b.Status, Model: b.Model, Version: b.ModelVersion, Counts: b.Counts, Pending: b.Counts.Pending(), Percent: b.Told, Failure: b.Failure}
}

// advance tells how far the batch has come.
func (b *Batch) advance(now time.Time) {
	c := b.changed()
	c.Progress, c.Rate, c.Late = true, math.Round(b.Rate(now)), b.Late(now)
	if eta, _ := b.ETA(now); !eta.IsZero() {
		c.ETA = eta.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	b.Record(c)
}

func (b *Batch) move(s Status) {
	b.Status, b.Waits = s, nil
	b.Record(b.changed())
}

// Rate returns the rows per second of the present run, 0 while that is not known.
func (b *Batch) Rate(now time.Time) float64 {
	done := b.Counts.Succeeded + b.Counts.Failed - b.Base
	if b.Status != Running || b.Since.IsZero() || done <= 0 || !now.After(b.Since) {
		return 0
	}
	return float64(done) / now.Sub(b.Since).Seconds()
}

// Outcome sums up how the rows of a batch that has ended fared.
func (b *Batch) Outcome() string {
	switch {
	case !b.Status.Final():
		return ""
	case b.Counts.Succeeded == b.Counts.Total && b.Status == Completed:
		return "all_succeeded"
	case b.Counts.Succeeded == 0:
		return "none_succeeded"
	}
	return "partial"
}
