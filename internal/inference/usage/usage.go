// Package usage counts what tenants have models do, each thing once: by hour,
// model, version and mode.
//
// A durable prediction's end and what it took are one changeset: the entry goes
// through the outbox, and a Folder adds it to the totals in a unit of work that
// notes it in the inbox, so that no repetition counts; a prediction that is replayed
// ends twice, and counts twice. Online requests
// leave no trace of their own: a Meter sums them up in memory and adds the sums
// every few seconds, each under a name of its own, so that none is added twice. A
// process that dies loses the seconds since.
//
// Limits: the inbox forgets after Remember. A message that was handled, whose
// acknowledgement was lost in a crash, and that comes again only after a longer
// stop than that counts twice.
package usage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Mode is how a model was asked.
type Mode string

// The modes.
const (
	Online  Mode = "online"  // answered at once; requests that are refused or fail do not count
	Durable Mode = "durable" // a durable prediction, however it ended
	Batch   Mode = "batch"   // rows of a batch, as they are answered, and the batch as one request with its end
	// Evaluation is rows that versions answered again, and with its end the evaluation itself
	// as one request to its candidate.
	Evaluation Mode = "evaluation"
)

// What is the thing that was used, and how.
type What struct {
	Model   string `json:"model"`
	Version string `json:"version,omitempty"` // that answered, or was asked for
	Mode    Mode   `json:"mode"`
}

// Amount is how much was used. Amounts are whole numbers, so that their sums are
// exact.
type Amount struct {
	Requests    int64 `json:"requests"` // the sum of the next four
	Succeeded   int64 `json:"succeeded"`
	Failed      int64 `json:"failed"`
	Cancelled   int64 `json:"cancelled"`
	Expired     int64 `json:"expired"`
	Rows        int64 `json:"rows"`         // that models have answered
	ComputeUS   int64 `json:"compute_us"`   // microseconds of runs, by the share of their rows
	InputBytes  int64 `json:"input_bytes"`  // of tensors of these rows
	OutputBytes int64 `json:"output_bytes"` // of tensors that they were answered with
}

// Add adds another amount.
func (a *Amount) Add(b Amount) {
	a.Requests += b.Requests
	a.Succeeded += b.Succeeded
	a.Failed += b.Failed
	a.Cancelled += b.Cancelled
	a.Expired += b.Expired
	a.Rows += b.Rows
	a.ComputeUS += b.ComputeUS
	a.InputBytes += b.InputBytes
	a.OutputBytes += b.OutputBytes
}

// Entry is something that was used.
type Entry struct {
	What
	Amount
}

// ID names a tenant's total of an hour.
type ID string

// Total is what a tenant has used of one thing in an hour.
type Total struct {
	aggregate.Root[ID]
	Used Entry     `json:"used"`
	Hour time.Time `json:"hour"` // its beginning, UTC
}

// Keep is how long totals are kept.
const Keep = 400 * 24 * time.Hour

// Totals keeps them.
var Totals = repo.Kind[ID, Total]{
	Name: "usage", Root: func(t *Total) *aggregate.Root[ID] { return &t.Root },
	Columns: []spec.Column[Total]{hour},
	Expires: func(t *Total) time.Time { return t.Hour.Add(Keep) },
}

var hour = spec.TimeField("hour", func(t *Total) time.Time { return t.Hour })

// idOf is the id of the total of an hour.
func idOf(at time.Time, w What) ID {
	sum := sha256.Sum256([]byte(w.Model + "\x00" + w.Version + "\x00" + string(w.Mode)))
	return ID(at.UTC().Format("2006010215") + "_" + hex.EncodeToString(sum[:16]))
}

// add adds an entry to the total of the hour that at is in.
func add(ctx context.Context, tx *repo.Tx, at time.Time, e Entry) error {
	id := idOf(at, e.What)
	_, err := Totals.Update(ctx, tx, id, func(t *Total) error { t.Used.Add(e.Amount); return nil })
	if !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	t := &Total{Used: e, Hour: at.UTC().Truncate(time.Hour)}
	t.ID = id
	return Totals.Add(ctx, tx, t)
}

// Remember is how long the names of what was counted are kept.
const Remember = 7 * 24 * time.Hour

// tries bounds the attempts to add an entry while others make the same total.
const tries = 3

// once adds the entry of all that is named, unless any of it was counted before: then it
// fails with repo.ErrProcessed.
func once(ctx context.Context, store *repo.Store, tenant string, names []string, at time.Time, e Entry) (err error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	for range tries {
		err = store.OnceEach(ctx, scope, "usage", names, Remember, func(ctx context.Context, tx *repo.Tx) error { return add(ctx, tx, at, e) })
		if !errors.Is(err, repo.ErrExists) {
			break
		}
	}
	return err
}

const (
	streamUsage = "usage" // in the outbox
	streamName  = "USAGE" // in the queue
)

// Stream is the stream of entries. It keeps what is not counted yet.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	const room = 256 << 20 // for some hundred thousand entries; more wait in the outbox
	return queue.Stream{Name: streamName, Subjects: []string{streamUsage + ".>"}, Retention: queue.Work, Discard: queue.Refuse, MaxBytes: room, Replicas: replicas, Duplicates: duplicates}
}

// Publish has an entry counted once if the unit of work is committed; of is what used it.
func Publish(tx *repo.Tx, of repo.Key, e Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "an entry cannot be encoded")
	}
	return tx.Publish(repo.Message{Stream: streamUsage, Type: "usage.entry", Key: of, Data: data})
}
