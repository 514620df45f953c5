// Package export writes what the store has of a tenant to files that people open:
// CSV, JSON Lines, Parquet and workbooks.
//
// An export is an aggregate. That it is there to be run is said in the queue, by the
// commit that makes it; a message is a hint, and the store says what is to be done.
// A worker takes the export, with a fence, scans the dataset, encodes it straight
// into objects of names that are used once, and names them in the commit that
// completes it. Before that it compares what it has read with what the store counts:
// an export that is short fails, and is never complete. A worker that dies is
// replaced after its lease by one that begins again; what it has written nobody
// names, and the sweep of orphans removes.
//
// Known limits: a scan is as consistent as its dataset says, see Dataset. An
// attempt begins from the start.
package export

import (
	"fmt"
	"slices"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of an export, exp_….
type ID string

// Prefix is how ids of exports begin.
const Prefix = "exp"

// Status is where an export is on its way.
type Status string

// The states. The last four are final.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Completed Status = "completed" // and can be downloaded until it expires
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
	Expired   Status = "expired"
)

// Part is one file of an export.
type Part struct {
	Name   string `json:"name"`
	Object string `json:"object"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Failure is why an export failed, for its client.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Progress says how far an attempt is.
type Progress struct {
	Scanned int64 `json:"scanned"` // rows read of the dataset
	Rows    int64 `json:"rows"`    // of these, the ones that the filters let through
	Bytes   int64 `json:"bytes"`   // written
	Total   int64 `json:"total"`   // rows that the store counted before; -1 while it is not known
}

// Percent is how much of the dataset has been read.
func (p Progress) Percent() float64 {
	if p.Total <= 0 {
		return 0
	}
	return min(100, 100*float64(p.Scanned)/float64(p.Total))
}

// Waiting is what an export waits for that is there again some day: room on a disk, a server;
// and since when, however often it has been tried.
type Waiting struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// Export is one export.
type Export struct {
	aggregate.Root[ID]
	Name        string    `json:"name,omitempty"`     // of the client's own
	Schedule    string    `json:"schedule,omitempty"` // that it was made for
	Status      Status    `json:"status"`
	Request     Request   `json:"request"`
	Progress    Progress  `json:"progress"`
	Parts       []Part    `json:"parts,omitempty"` // of the attempt under way, or the last
	Failure     *Failure  `json:"failure,omitempty"`
	Waits       *Waiting  `json:"waits,omitempty"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"`

	Attempt int       `json:"attempt"`        // the fence of the attempt under way, or of the last
	Tries   int       `json:"tries"`          // attempts that count: not those of workers that stopped in order
	After   time.Time `json:"after,omitzero"` // when the next attempt may begin; zero is at once
	Due     time.Time `json:"due"`            // when somebody has to look after it: say again that it waits, or expire it; far in the future for nobody
	Keep    time.Time `json:"keep"`           // when it is forgotten
}

// Exports keeps them.
var Exports = repo.Kind[ID, Export]{
	Name: "exports", Root: func(e *Export) *aggregate.Root[ID] { return &e.Root },
	Columns: []spec.Column[Export]{status, due},
	Expires: func(e *Export) time.Time { return e.Keep },
}

var (
	status = spec.TextField("status", func(e *Export) Status { return e.Status })
	due    = spec.TimeField("due", func(e *Export) time.Time { return e.Due })
)

// never is the Due of what needs nobody any more.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	lease      = 30 * time.Second // for which a worker may give no sign of life
	notice     = time.Minute      // for which what was said of an export that waits is believed to be heard
	maxTries   = 5
	patience   = time.Hour      // for which what is not there, or full, fails no export that was accepted
	longest    = 4              // of waits, as a power of two of seconds,
	slowest    = 8              // and of those for room, where an attempt has filled what there was
	remembered = 24 * time.Hour // for which it is told how an export has ended that has no files
)

// comesBack are codes of what an export waits for: a disk or a bucket that is full, and a bucket or a
// store that is away.
var comesBack = []string{blob.CodeFull, blob.CodeUnavailable, "store_unavailable"}

// Changed says that an export is in another state, or how far it is.
type Changed struct {
	Status  Status   `json:"status"`
	Dataset string   `json:"dataset"`
	Format  string   `json:"format"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"`
	Percent float64  `json:"percent"`
	Failure *Failure `json:"failure,omitempty"`

	progress bool
}

// EventType implements aggregate.Event: export.queued, export.progress,
// export.completed, ….
func (c Changed) EventType() string {
	if c.progress {
		return "export.progress"
	}
	return "export." + string(c.Status)
}

func (e *Export) record(progress bool) {
	e.Record(Changed{Status: e.Status, Dataset: e.Request.Dataset, Format: string(e.Request.Format), Rows: e.Progress.Rows, Bytes: e.Progress.Bytes,
		Percent: e.Progress.Percent(), Failure: e.Failure, progress: progress})
}

func (e *Export) move(s Status, due, keep time.Time) {
	if e.Status, e.Due, e.Keep = s, due, keep; e.Final() {
		e.Waits = nil
	}
	e.record(false)
}

// Final says whether nothing more is written.
func (e *Export) Final() bool { return e.Status != Queued && e.Status != Running }

var errLost = fault.New(fault.Conflict, "another worker has the export since, or nobody wants it any more").WithCode("export_lost")

// Take begins an attempt: it returns errLost where there is none to begin. An export
// whose workers have died too often has Failed instead.
func (e *Export) Take(now time.Time, keep time.Duration) error {
	if e.Final() || e.Status == Running && now.Before(e.Due) || now.Before(e.After) {
		return errLost
	}
	if e.Tries >= maxTries {
		e.fail(Failure{"attempts_exhausted", fmt.Sprintf("%d attempts came to nothing, and the worker of the last one died", e.Tries)}, now, keep)
		return nil
	}
	e.After = time.Time{}
	e.Attempt++
	e.Tries++
	e.Parts, e.Progress = nil, Progress{Total: -1}
	if e.StartedAt.IsZero() {
		e.StartedAt = now
	}
	e.move(Running, now.Add(lease), e.Keep)
	return nil
}

// mine returns errLost unless the attempt is under way.
func (e *Export) mine(attempt int) error {
	if e.Status != Running || e.Attempt != attempt {
		return errLost
	}
	return nil
}

// Extend says that the attempt is alive.
func (e *Export) Extend(attempt int, now time.Time) error {
	if err := e.mine(attempt); err != nil {
		return err
	}
	e.Due = now.Add(lease)
	return nil
}

// Advance says that the attempt is alive, and how far it is.
func (e *Export) Advance(attempt int, p Progress, parts []Part, now time.Time) error {
	if err := e.mine(attempt); err != nil {
		return err
	}
	e.Due, e.Progress, e.Parts = now.Add(lease), p, parts
	e.record(true)
	return nil
}

// Finish publishes the parts until they expire.
func (e *Export) Finish(attempt int, p Progress, parts []Part, now time.Time, keep time.Duration) error {
	if err := e.mine(attempt); err != nil {
		return err
	}
	e.Progress, e.Parts, e.CompletedAt = p, parts, now
	ends := now.Add(keep)
	e.move(Completed, ends, ends.Add(remembered))
	return nil
}

// Stop ends an attempt that came to nothing. It is tried again where that may
// help, and else the export has failed.
func (e *Export) Stop(attempt int, why error, stopped bool, now time.Time, keep time.Duration) error {
	if err := e.mine(attempt); err != nil {
		return err
	}
	e.Parts = nil
	f, waits := fault.Of(why), e.Waits
	e.Waits = nil
	switch {
	case stopped: // the worker, in order
		e.Tries--
		e.move(Queued, now.Add(notice), e.Keep)
	case slices.Contains(comesBack, fault.CodeOf(f)) && (waits == nil || now.Sub(waits.Since) < patience):
		e.Tries--
		e.wait(f, waits, now)
	case f.Kind.Retryable() && e.Tries < maxTries:
		e.After = now.Add(time.Second << e.Tries)
		e.move(Queued, e.After, e.Keep)
	default:
		e.fail(Failure{fault.CodeOf(f), f.Text()}, now, keep)
	}
	return nil
}

// wait has the export tried again when what it waits for may be there.
func (e *Export) wait(f *fault.Error, before *Waiting, now time.Time) {
	e.Waits = &Waiting{fault.CodeOf(f), f.Text(), now}
	if before != nil {
		e.Waits.Since = before.Since
	}
	most := longest
	if e.Progress.Scanned > 0 {
		most = slowest
	}
	e.After = now.Add(time.Second << min(e.Attempt, most))
	e.move(Queued, e.After, e.Keep)
}

func (e *Export) fail(f Failure, now time.Time, keep time.Duration) {
	e.Parts, e.Failure, e.CompletedAt = nil, &f, now
	e.move(Failed, never, now.Add(keep))
}

// Remind says whether somebody has to be told that the export waits for a worker,
// and notes that.
func (e *Export) Remind(now time.Time) bool {
	if e.Final() || now.Before(e.Due) {
		return false
	}
	if e.Status == Running { // and its worker gives no sign of life
		e.move(Queued, now, e.Keep)
	}
	e.Due = now.Add(notice)
	return true
}

// Cancel ends an export that is not wanted any more. One that has ended stays as
// it is.
func (e *Export) Cancel(now time.Time, keep time.Duration) {
	if e.Final() {
		return
	}
	e.Parts, e.CompletedAt = nil, now
	e.move(Cancelled, never, now.Add(keep))
}

// Expire ends an export whose time is over; it names no files from then on. It
// returns whether it did.
func (e *Export) Expire(now time.Time) bool {
	if e.Status != Completed || now.Before(e.Due) {
		return false
	}
	e.Parts = nil
	e.move(Expired, never, now.Add(remembered))
	return true
}

// Now returns the state at a time, whether or not anybody has noted it.
func (e *Export) Now(now time.Time) Status {
	if e.Status == Completed && !now.Before(e.Due) {
		return Expired
	}
	return e.Status
}

// Usable returns why there is nothing to download, nil where there is.
func (e *Export) Usable(now time.Time) error {
	switch e.Now(now) {
	case Completed:
		return nil
	case Expired:
		return fault.New(fault.Gone, "the export %s has expired: export it again; with the same as_of it is the same as far as the dataset goes", e.ID).WithCode("export_expired")
	case Failed:
		return fault.New(fault.Conflict, "the export %s has failed: %s", e.ID, e.Failure.Message).WithCode("export_failed")
	case Cancelled:
		return fault.New(fault.Conflict, "the export %s was cancelled: export it again", e.ID).WithCode("export_cancelled")
	}
	return fault.New(fault.Conflict, "the export %s is not complete: wait for its status, or for the event export.completed", e.ID).WithCode("export_incomplete").WithRetryAfter(2 * time.Second)
}
