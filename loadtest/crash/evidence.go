package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/stores"
)

// evidence is what the stores hold after the last process has ended.
type evidence struct {
	records      map[repo.Key]stored
	reservations map[string]reservation // by the hash of their key
	marks        map[string]int         // of commands, by operation; nil where the store does not tell
	readModel    map[string]int64       // audit entries: id to index
	pending      []string               // ids of messages that wait in the outbox
	wasFull      bool                   // the disk, for a while
	events       []repo.Message         // in the order of the stream
	waiting      []string               // audit entries in the queue, which may be repetitions
	leaves       []audit.Logged
	report       *audit.Report
	broken       []string // what is wrong with a store as such
}

// stored is a record.
type stored struct {
	Version, Sequence int64
	Deleted           bool
	Fields            fields
}

// reservation is what is known of an Idempotency-Key.
type reservation struct {
	Operation uuid.UUID
	Attempt   int
	Answered  bool
}

// add takes a record of any kind that matters.
func (e *evidence) add(key repo.Key, s stored, doc []byte) error {
	switch key.Kind {
	case flags, tenants, webhooks:
		if err := json.Unmarshal(doc, &s.Fields); err != nil {
			return fmt.Errorf("%s %s: %w", key.Kind, key.ID, err)
		}
		e.records[key] = s
	case "idempotency_keys":
		var r struct {
			Operation uuid.UUID       `json:"operation"`
			Attempt   int             `json:"attempt"`
			Answer    json.RawMessage `json:"answer"`
		}
		if err := json.Unmarshal(doc, &r); err != nil {
			return fmt.Errorf("reservation %s: %w", key.ID, err)
		}
		e.reservations[key.ID] = reservation{r.Operation, r.Attempt, len(r.Answer) > 0}
	case "audit_entries":
		var entry struct{ Index *int64 }
		if err := json.Unmarshal(doc, &entry); err != nil || entry.Index == nil {
			return fmt.Errorf("audit entry %s has no index: %w", key.ID, err)
		}
		e.readModel[key.ID] = *entry.Index
	}
	return nil
}

func newEvidence() *evidence {
	return &evidence{records: map[repo.Key]stored{}, reservations: map[string]reservation{}, readModel: map[string]int64{}}
}

// kinds are those whose records are read.
var kinds = []string{flags, tenants, webhooks, "idempotency_keys", "audit_entries"}

// readSQLite reads a store with nothing but SQL.
func (e *evidence) readSQLite(ctx context.Context, path string) (err error) {
	s, err := stores.OpenSQLite(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if problem := s.Integrity(ctx); problem != "" {
		e.broken = append(e.broken, problem)
	}
	for _, kind := range kinds {
		err := s.Records(ctx, kind, func(r stores.Record) error {
			return e.add(r.Key, stored{Version: r.Version, Sequence: r.Sequence, Deleted: r.Deleted}, r.Doc)
		})
		if err != nil {
			return err
		}
	}
	e.marks = map[string]int{}
	err = s.Rows(ctx, "SELECT message FROM inbox WHERE consumer LIKE 'command:%'", func(scan func(...any) error) error {
		var operation string
		err := scan(&operation)
		e.marks[operation]++
		return err
	})
	if err != nil {
		return err
	}
	return s.Pending(ctx, func(_, id string) { e.pending = append(e.pending, id) })
}

// readQueue reads all events, and the audit entries that nobody has taken yet.
func (e *evidence) readQueue(ctx context.Context, nc *nats.Conn) error {
	err := stores.Messages(ctx, nc, "EVENTS", func(m repo.Message) { e.events = append(e.events, m) })
	if err != nil {
		return err
	}
	return stores.Messages(ctx, nc, "AUDIT", func(m repo.Message) { e.waiting = append(e.waiting, m.ID) })
}

// readFolder proves and reads the audit log in a data folder.
func (e *evidence) readFolder(ctx context.Context, dir string) (err error) {
	e.leaves, e.report, err = stores.AuditFolder(ctx, dir)
	return err
}

// derived returns the ids that an operation's events and entries can have.
func derived(operation uuid.UUID, n int, derive func(uuid.UUID, int) uuid.UUID) []string {
	out := make([]string, n)
	for i := range out {
		id := derive(operation, i)
		out[i] = "evt_" + hex.EncodeToString(id[:])
	}
	return out
}
