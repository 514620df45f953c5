// Package api has batches as a resource of the native API: a file that was
// uploaded, a model that answers its rows, and the results, which can be read while
// they grow and whatever becomes of the batch.
package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spare"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/upload"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// Bucket is what the API needs of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
	blob.Copier
}

// Models describes models, see run.Predictor.
type Models interface {
	Model(model, version string) (run.Model, error)
}

// API serves batches.
type API struct {
	bus       *cqrs.Bus
	store     *repo.Store
	bucket    Bucket
	models    Models
	uploads   *upload.Service
	forecasts *run.Forecasts
	options   ingest.Options
	cpu       *spare.Processors
	checks    *Turns
}

// New returns the API. The forecasts are those that the process's workers teach. What is computed of files takes turns
// on what requests leave of cpu, if that is not nil.
func New(bus *cqrs.Bus, store *repo.Store, bucket Bucket, models Models, uploads *upload.Service, forecasts *run.Forecasts, options ingest.Options, cpu *spare.Processors) *API {
	return &API{bus, store, bucket, models, uploads, forecasts, options, cpu, NewTurns()}
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	const mend = "Mend the file where errors says, upload it again and make another batch."
	return []problem.Type{
		{Code: "input_invalid", Title: "The batch's rows cannot be found", Fix: "Send input.upload_id, or rows as objects in input.inline."},
		{Code: "rows_invalid_file", Title: "The rows do not fit the model", Fix: mend},
		{Code: "columns_missing", Title: "The file lacks columns", Fix: "Say in columns which columns of the file make which input of the model, or give the file a header with the names that errors has."},
		{Code: "file_page_too_large", Title: "A page of the file is too large", Fix: "Write the Parquet file with pages of some megabytes at most."},
		{Code: "file_encrypted", Title: "The file is encrypted", Fix: "Decrypt it before the upload, or write it without encryption."},
		{Code: "file_too_many_pages", Title: "A column of the file has too many pages", Fix: "Write the Parquet file with larger pages, or with fewer rows in a group."},
		{Code: "header_unknown", Title: "It is not clear whether the file has a header", Fix: "Set csv.header to true or false, or name the columns of each input in columns."},
		{Code: "format_mismatch", Title: "The file is of another format", Fix: "Leave format out, so that it is found out, or set what detail names; a file in a form that is not read has to be written in another, as detail says."},
		{Code: "sheet_unknown", Title: "It is not clear which sheet is meant", Fix: "Name one of the sheets that errors has in sheet."},
		{Code: "workbook_texts_too_large", Title: "The workbook's texts are too large", Fix: "Save the sheet as CSV."},
		{Code: "file_dictionary_too_large", Title: "The dictionaries of the file are too large", Fix: "Write these columns as texts, without a dictionary."},
		{Code: "file_batch_too_large", Title: "The record batches of the file are too large", Fix: "Write record batches of fewer rows, or without compression."},
		{Code: "column_type", Title: "A column's type cannot be read", Fix: "Write its values as numbers or texts, or as lists of them, or leave it out. Dates, times and UUIDs can be repeated in the results, but are no inputs."},
		{Code: "columns_invalid", Title: "The columns cannot be understood", Fix: "Name for each input of the model as many columns as it has elements in a row, or one whose cells are lists of that many."},
		{Code: "model_not_batchable", Title: "The model takes no files of rows", Fix: "Use a model that batches, without state, whose inputs have fixed shapes beyond their rows."},
		{Code: "dialect_invalid", Title: "The dialect cannot be understood", Fix: "Leave csv out, so that it is found out, or set what detail names."},
		{Code: "encoding_unknown", Title: "The encoding is not known", Fix: "Leave encoding out for UTF-8 and UTF-16, or name one of those that detail has."},
		{Code: "file_empty", Title: "The file has no rows", Fix: mend},
		{Code: "file_damaged", Title: "The file cannot be decoded", Fix: "Compress and upload it again."},
		{Code: "file_inflates", Title: "The file inflates too much", Fix: "Upload it less compressed."},
		{Code: "file_too_large", Title: "The file inflates to too much", Fix: "Split it."},
		{Code: "file_too_wide", Title: "The file has too many columns", Fix: "Leave out those that the model does not need."},
		{Code: "csv_quote_unclosed", Title: "A quote is never closed", Fix: mend},
		{Code: ingest.CodeTooLarge, Title: "A row is too large", Fix: mend},
		{Code: ingest.CodeQuote, Title: "A row's quotes cannot be understood", Fix: "Double the quotes within quoted cells, or name the quote that the file uses in csv.quote."},
		{Code: ingest.CodeEncoding, Title: "A row is not in the file's encoding", Fix: "Name the file's encoding in encoding."},
		{Code: "input_changed", Title: "The batch's file has changed", Fix: "The results of the rows that were done can be read. Upload the file again and make a batch of the others."},
		{Code: "deadline_passed", Title: "The deadline has passed", Fix: "Send deadline_at in the future, or leave it out."},
		{Code: "deadline_unattainable", Title: "The batch would not end in time", Fix: "Send a later deadline_at, see detail, or a smaller file, or leave it out."},
		{Code: "batch_checks_busy", Title: "Too many files are being checked", Fix: "Send the request again after Retry-After."},
		{Code: "batches_open", Title: "The tenant has as many batches as it may", Fix: "Wait until one has ended, or cancel one."},
		{Code: "batch_state", Title: "The batch's state does not allow it", Fix: "Look at its status."},
		{Code: "batch_expired", Title: "The batch's results have expired", Fix: "Make another batch of the file."},
		{Code: "batch_format_unknown", Title: "The batch has no results in that format", Fix: "Leave format out, or name one that the batch was made with in output.formats."},
		{Code: "batch_no_results", Title: "There is nothing to download yet", Fix: "Wait until the first rows have been run."},
	}
}

// NewBatch is what makes a batch.
type NewBatch struct {
	Input         NewBatchInput       `json:"input"`
	Format        string              `json:"format,omitempty" enum:"csv,jsonl,parquet,arrow,xlsx" doc:"Of the file, which tells it without it. CSV and JSON Lines may be compressed with gzip or zstd; arrow is IPC, as a file or a stream."`
	Sheet         string              `json:"sheet,omitempty" maxLength:"255" doc:"Of a workbook, where several have rows; a hidden one is only read if it is named. Formulas count with the values that were saved, and of merged cells the first has the value."`
	Model         string              `json:"model" maxLength:"255" doc:"name, name:version or name@label. All rows are answered by the version that it is now."`
	RowID         string              `json:"row_id,omitempty" maxLength:"255" doc:"The column with the rows' own names, which are repeated in the results; each must be there once."`
	Columns       map[string][]string `json:"columns,omitempty" doc:"For inputs of the model the columns that they are made of: as many as the input has elements in a row, or one whose cells are JSON lists. Without it a column with the input's name; or, for the only input of a model, all columns but the others that are named here."`
	CSV           *BatchDialect       `json:"csv,omitempty" doc:"How the file is written, where that is not to be found out."`
	Encoding      string              `json:"encoding,omitempty" enum:"utf-8,utf-16le,utf-16be,windows-1252,iso-8859-1" doc:"Of the file. UTF-8 and UTF-16 are told apart without it."`
	Output        *NewBatchOutput     `json:"output,omitempty"`
	OnRowError    string              `json:"on_row_error,omitempty" enum:"continue,stop" doc:"Whether the batch goes on when a row fails; continue without it."`
	MaxErrorRatio *float64            `json:"max_error_ratio,omitempty" minimum:"0" maximum:"1" doc:"The share of all rows that may fail before the batch does; 1 without it."`
	DeadlineAt    *api.Time           `json:"deadline_at,omitempty" doc:"When the batch expires if it has not ended. One that the forecast says cannot be kept is refused."`
	Metadata      map[string]string   `json:"metadata,omitempty" maxProperties:"16" doc:"The client's own."`
}

// NewBatchOutput is what results shall be.
type NewBatchOutput struct {
	Format       string   `json:"format,omitempty" enum:"csv,jsonl,parquet,xlsx" doc:"jsonl without it, or the first of formats."`
	Formats      []string `json:"formats,omitempty" maxItems:"4" enum:"csv,jsonl,parquet,xlsx" doc:"Several at once. Only the results in JSON Lines, which are always there unless CSV alone is wanted, and those in CSV alone can be read while they grow; the others are made when the batch ends."`
	IncludeInput []string `json:"include_input,omitempty" maxItems:"1000" doc:"Columns of the file that come along."`
}

// BatchDialect says how a CSV file is written.
type BatchDialect struct {
	Delimiter string `json:"delimiter,omitempty" maxLength:"1"`
	Quote     string `json:"quote,omitempty" maxLength:"4" doc:"One character, or none."`
	Header    *bool  `json:"header,omitempty" doc:"Whether the first row names the columns, also of a workbook. Without names they are called 1, 2, …"`
	Decimal   string `json:"decimal,omitempty" pattern:"^[.,]$" doc:"A point, or a comma beside another delimiter."`
}

// Batch is what is shown of one.
type Batch struct {
	ID          string            `json:"id"`
	Object      string            `json:"object"`
	Status      string            `json:"status" enum:"validating,in_progress,paused,finalizing,cancelling,completed,failed,cancelled,expired"`
	Outcome     string            `json:"outcome,omitempty" enum:"all_succeeded,partial,none_succeeded" doc:"How the rows fared, once the batch has ended."`
	Model       string            `json:"model"`
	Version     string            `json:"version"`
	RowCounts   BatchRowCounts    `json:"row_counts"`
	Progress    BatchProgress     `json:"progress"`
	Quote       *BatchQuote       `json:"quote,omitempty" doc:"What the batch was expected to take when it was accepted, where the model's pace was known."`
	Usage       BatchUsage        `json:"usage"`
	Waiting     *BatchWaiting     `json:"waiting,omitempty" doc:"What the batch waits for, where nobody can go on with it: a process that has the model, or room on a disk. It goes on by itself once there is."`
	Error       *BatchFailure     `json:"error,omitempty"`
	Errors      []BatchRowError   `json:"errors,omitempty" doc:"Of rows, the first hundred."`
	Results     *BatchResults     `json:"results,omitempty" doc:"What can be downloaded now."`
	Metadata    map[string]string `json:"metadata,omitempty"`
	CreatedAt   api.Time          `json:"created_at"`
	StartedAt   *api.Time         `json:"started_at,omitempty"`
	CompletedAt *api.Time         `json:"completed_at,omitempty"`
	DeadlineAt  *api.Time         `json:"deadline_at,omitempty"`
	ExpiresAt   *api.Time         `json:"expires_at,omitempty" doc:"When its results are no more to be had. A day later the batch is forgotten."`
	URLs        BatchURLs         `json:"urls"`
}

// BatchRowCounts always sum up to total, which is 0 while the rows are not counted yet.
type BatchRowCounts struct {
	Total     int64 `json:"total"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Expired   int64 `json:"expired"`
	Pending   int64 `json:"pending"`
}

// BatchProgress is how far a batch is.
type BatchProgress struct {
	Percent int       `json:"percent"`
	Rate    float64   `json:"rows_per_s,omitempty"`
	ETA     *api.Time `json:"eta_at,omitempty" doc:"When all rows will be done: at this rate, and before the first rows by the quote."`
	ETAP95  *api.Time `json:"eta_p95_at,omitempty" doc:"When they will be in nineteen of twenty batches."`
	Late    bool      `json:"late,omitempty" doc:"The forecast is behind deadline_at."`
}

// BatchQuote is what a batch was expected to take. What it costs is the time of the
// model's runs: compute_ms, which usage has as it came.
type BatchQuote struct {
	Rows      int64   `json:"rows"`
	Exact     bool    `json:"rows_exact" doc:"The rows are counted, and not estimated from the first ones."`
	Ahead     int64   `json:"ahead_rows,omitempty" doc:"Rows of the tenant's other batches that have their turns meanwhile."`
	Seconds   float64 `json:"seconds" doc:"From the beginning to the end."`
	P95       float64 `json:"p95_seconds" doc:"The same, of the slowest twentieth of batches."`
	ComputeMS float64 `json:"compute_ms"`
}

// BatchUsage is what the batch took of the model.
type BatchUsage struct {
	Rows      int64   `json:"rows" doc:"That the model was run for."`
	Reused    int64   `json:"reused_rows" doc:"That were answered by the run of an equal row before them in their chunk: of a model whose answers depend on nothing but the row."`
	ComputeMS float64 `json:"compute_ms"`
}

// BatchWaiting is why nothing happens to a batch.
type BatchWaiting struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Since   api.Time `json:"since"`
}

// BatchFailure is why a batch failed.
type BatchFailure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// BatchRowError is why a row failed.
type BatchRowError struct {
	Index   *int64 `json:"index,omitempty" doc:"Of the row, from 0."`
	Line    int64  `json:"line,omitempty"`
	Column  string `json:"column,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// BatchResults say what can be downloaded.
type BatchResults struct {
	URL    string      `json:"url"`
	Bytes  int64       `json:"bytes"`
	Rows   int64       `json:"rows"`
	SHA256 string      `json:"sha256,omitempty" doc:"Once the batch has ended."`
	Files  []BatchFile `json:"files,omitempty" doc:"The formats that were asked for, where it was more than CSV or JSON Lines alone, once the batch has ended; the first is what url has."`
}

// BatchFile is the results in one format.
type BatchFile struct {
	Format string        `json:"format"`
	URL    string        `json:"url"`
	Bytes  int64         `json:"bytes"`
	Rows   int64         `json:"rows"`
	SHA256 string        `json:"sha256,omitempty"`
	Error  *BatchFailure `json:"error,omitempty" doc:"Why there is none: what the format cannot hold."`
}

// BatchURLs are what can be done with a batch.
type BatchURLs struct {
	Self    string `json:"self"`
	Results string `json:"results"`
	Errors  string `json:"errors"`
	Events  string `json:"events"`
	Cancel  string `json:"cancel"`
}

func at(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

// seconds is a time in seconds, of which no more is shown than a forecast says.
func seconds(d time.Duration) float64 { return round(d).Seconds() }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// view shows a batch.
func (a *API) view(prefix string, b *job.Batch) Batch {
	self := prefix + "/batches/" + string(b.ID)
	c := b.Counts
	v := Batch{ID: string(b.ID), Object: "batch", Status: string(b.Status), Outcome: b.Outcome(), Model: b.Model, Version: b.ModelVersion,
		RowCounts: BatchRowCounts{c.Total, c.Succeeded, c.Failed, c.Cancelled, c.Expired, c.Pending()},
		Usage:     BatchUsage{b.Used.Rows, b.Reused, float64(b.Used.ComputeUS) / 1000}, Metadata: b.Metadata,
		CreatedAt: api.Time{Time: b.CreatedAt}, StartedAt: at(b.StartedAt), CompletedAt: at(b.CompletedAt), DeadlineAt: at(b.Deadline), ExpiresAt: at(b.Keep),
		URLs: BatchURLs{self, self + "/results", self + "/errors", self + "/events", self + "/cancel"}}
	now := a.store.Now()
	eta, slow := b.ETA(now)
	v.Progress = BatchProgress{Percent: b.Percent(), Rate: b.Rate(now), ETA: at(eta), ETAP95: at(slow), Late: b.Late(now)}
	if q := b.Quote; q != nil {
		v.Quote = &BatchQuote{q.Rows, q.Exact, q.Ahead, seconds(q.Duration(q.Rows)), seconds(q.P95(q.Rows)), math.Ceil(float64(q.Rows)*q.Compute/1e3) / 1000}
	}
	if !b.Absent.IsZero() && (b.Status == job.Validating || b.Status == job.Running) {
		v.Waiting = &BatchWaiting{"model_not_here", fmt.Sprintf("no process that came had version %s of the model %s: load it, or the batch fails", b.ModelVersion, b.Model), api.Time{Time: b.Absent}}
	}
	if w := b.Waits; w != nil && v.Waiting == nil {
		v.Waiting = &BatchWaiting{w.Code, w.Message, api.Time{Time: w.Since}}
	}
	if f := b.Failure; f != nil {
		v.Error = &BatchFailure{f.Code, f.Message, f.Retryable}
	}
	for _, e := range b.Errors {
		shown := BatchRowError{&e.Index, e.Line, e.Column, e.Code, e.Message}
		if e.Index < 0 {
			shown.Index = nil
		}
		v.Errors = append(v.Errors, shown)
	}
	if parts := results(b); len(parts) > 0 && b.Usable(now) == nil {
		v.Results = &BatchResults{URL: self + "/results", Bytes: size(b, parts)}
		for _, p := range parts {
			v.Results.Rows += p.Rows
		}
		if b.Results != nil {
			v.Results.SHA256 = b.Results.SHA256
			v.Results.files(b, self)
		}
	}
	return v
}

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type listIn struct {
	api.PageQuery
	api.OrderQuery
	Status string `query:"status" enum:"validating,in_progress,paused,finalizing,cancelling,completed,failed,cancelled,expired"`
	Model  string `query:"model" maxLength:"255"`
}

type listOut struct{ Body api.Page[Batch] }

type out struct {
	Status     int
	Location   string `header:"Location"`
	RetryAfter string `header:"Retry-After"`
	Body       Batch
}

// Register adds the operations.
func (a *API) Register(v *api.API) {
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"batches"}, Permission: permission}
	}
	create := op("create-batch", http.MethodPost, "/batches", "Have a model answer a file of rows", job.Write)
	create.Description = "The first rows are checked before the batch is accepted, with 202; what is wrong is said by line. Rows that fail later cost no others: see on_row_error."
	create.Idempotency, create.Status = api.KeyOptional, http.StatusAccepted
	api.Register(v, create, func(ctx context.Context, in *struct{ Body NewBatch }) (*out, error) {
		return a.answer(v.Prefix())(a.create(ctx, &in.Body))
	})
	api.Register(v, op("get-batch", http.MethodGet, "/batches/{id}", "Read a batch", job.Read), func(ctx context.Context, in *idIn) (*out, error) {
		o, err := a.answer(v.Prefix())(cqrs.Ask(ctx, a.bus, job.Find{ID: job.ID(in.ID)}))
		if o != nil {
			o.Status, o.Location = http.StatusOK, ""
		}
		return o, err
	})
	api.Register(v, op("list-batches", http.MethodGet, "/batches", "List batches", job.Read), func(ctx context.Context, in *listIn) (*listOut, error) {
		query := spec.Query[job.Batch]{Order: spec.Order[job.Batch]{Descending: in.Descending()}, Limit: in.Limit, After: in.Cursor}
		page, err := cqrs.Ask(ctx, a.bus, job.List{Status: job.Status(in.Status), Model: in.Model, Query: query})
		if err != nil {
			return nil, err
		}
		views := make([]Batch, len(page.Items))
		for i := range page.Items {
			views[i] = a.view(v.Prefix(), &page.Items[i])
		}
		return &listOut{api.NewPage(views, page.Next)}, nil
	})
	change(a, v, op("cancel-batch", http.MethodPost, "/batches/{id}/cancel", "Cancel a batch; what is done stays", job.Write), func(of job.Of) job.Cancel { return job.Cancel{Of: of} })
	change(a, v, op("pause-batch", http.MethodPost, "/batches/{id}/pause", "Pause a batch", job.Write), func(of job.Of) job.Pause { return job.Pause{Of: of} })
	change(a, v, op("resume-batch", http.MethodPost, "/batches/{id}/resume", "Resume a paused batch", job.Write), func(of job.Of) job.Resume { return job.Resume{Of: of} })
	change(a, v, op("retry-batch", http.MethodPost, "/batches/{id}/retry", "Run the rows of an ended batch again that have not succeeded", job.Write), func(of job.Of) job.Retry { return job.Retry{Of: of} })
	content := op("get-batch-results", http.MethodGet, "/batches/{id}/results", "Download a batch's results", job.Read)
	content.Description = "A record for each row, in the order of the file: all that were run of a batch that has ended, and before that those from the first on that are done. Without format it is the first of those that were asked for."
	content.Produces, content.Stream = []string{"application/jsonl", "text/csv", "application/vnd.apache.parquet", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}, true
	api.RegisterRaw(v, content, a.results)
	failed := op("get-batch-errors", http.MethodGet, "/batches/{id}/errors", "Download the errors of a batch's rows", job.Read)
	failed.Produces, failed.Stream = []string{"application/jsonl"}, true
	api.RegisterRaw(v, failed, a.errors)
}

// change adds an operation that sends a command about a batch.
func change[C cqrs.Command[*job.Batch]](a *API, v *api.API, op api.Operation, command func(job.Of) C) {
	op.Idempotency = api.KeyOptional
	api.Register(v, op, func(ctx context.Context, in *idIn) (*out, error) {
		return a.answer(v.Prefix())(cqrs.Send(ctx, a.bus, command(job.Of{ID: job.ID(in.ID)})))
	})
}

// answer answers with what a command has made of a batch.
func (a *API) answer(prefix string) func(*job.Batch, error) (*out, error) {
	return func(b *job.Batch, err error) (*out, error) {
		if err != nil {
			return nil, err
		}
		o := &out{Status: http.StatusOK, Body: a.view(prefix, b)}
		if !b.Status.Final() {
			o.Status, o.RetryAfter, o.Location = http.StatusAccepted, "1", o.Body.URLs.Self
		}
		return o, nil
	}
}
