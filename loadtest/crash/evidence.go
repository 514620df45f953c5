package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	_ "github.com/mattn/go-sqlite3" // reads the store without the platform's own code
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
)

// evidence is what the stores hold after the last process has ended.
type evidence struct {
	records      map[repo.Key]stored
	reservations map[string]reservation // by the hash of their key
	marks        map[string]int         // of commands, by operation; nil where the store does not tell
	readModel    map[string]int64       // audit entries: id to index
	pending      []string               // ids of messages that wait in the outbox
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
	db, err := sql.Open("sqlite3", "file:"+path+"?_query_only=true")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		e.broken = append(e.broken, fmt.Sprintf("SQLite's integrity check says %q, %v", verdict, err))
	}
	for _, kind := range kinds {
		err := rows(ctx, db, "SELECT tenant, id, version, sequence, deleted_at, doc FROM r_"+kind, func(scan func(...any) error) error {
			var (
				key     = repo.Key{Kind: kind}
				s       stored
				deleted int64
				doc     []byte
			)
			if err := scan(&key.Tenant, &key.ID, &s.Version, &s.Sequence, &deleted, &doc); err != nil {
				return err
			}
			s.Deleted = deleted != never
			return e.add(key, s, doc)
		})
		if err != nil {
			return err
		}
	}
	e.marks = map[string]int{}
	err = rows(ctx, db, "SELECT message FROM inbox WHERE consumer LIKE 'command:%'", func(scan func(...any) error) error {
		var operation string
		err := scan(&operation)
		e.marks[operation]++
		return err
	})
	if err != nil {
		return err
	}
	return rows(ctx, db, fmt.Sprintf("SELECT message FROM outbox WHERE published_at = %d", never), func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		e.pending = append(e.pending, id)
		return err
	})
}

// never is how a time that is not set is kept.
const never = int64(1<<63 - 1)

func rows(ctx context.Context, db *sql.DB, query string, visit func(scan func(...any) error) error) (err error) {
	found, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		if err := visit(found.Scan); err != nil {
			return err
		}
	}
	return found.Err()
}

// readQueue reads all events, and the audit entries that nobody has taken yet.
func (e *evidence) readQueue(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := visitStream(ctx, js, "EVENTS", func(m repo.Message) { e.events = append(e.events, m) }); err != nil {
		return err
	}
	return visitStream(ctx, js, "AUDIT", func(m repo.Message) { e.waiting = append(e.waiting, m.ID) })
}

// visitStream visits what is in a stream, in its order.
func visitStream(ctx context.Context, js jetstream.JetStream, name string, visit func(repo.Message)) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	for n := state.FirstSeq; n <= state.LastSeq && state.Msgs > 0; n++ {
		raw, err := stream.GetMsg(ctx, n)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it was taken
		}
		if err != nil {
			return fmt.Errorf("message %d of %s: %w", n, name, err)
		}
		var m repo.Message
		if err := json.Unmarshal(raw.Data, &m); err != nil {
			return fmt.Errorf("message %d of %s: %w", n, name, err)
		}
		visit(m)
	}
	return nil
}

// readAudit proves the log and reads it.
func (e *evidence) readAudit(ctx context.Context, publicKey string, log fs.FS) error {
	text, err := os.ReadFile(publicKey)
	if err != nil {
		return err
	}
	key, err := audit.ParsePublicKey(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	e.report, err = audit.Verify(ctx, log, audit.Trust{Keys: []audit.PublicKey{key}, Entry: func(l audit.Logged) error {
		e.leaves = append(e.leaves, l)
		return nil
	}})
	return err
}

// readFolder reads the audit log in a data folder.
func (e *evidence) readFolder(ctx context.Context, dir string) error {
	return e.readAudit(ctx, filepath.Join(dir, "audit.pub"), os.DirFS(filepath.Join(dir, "audit")))
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
