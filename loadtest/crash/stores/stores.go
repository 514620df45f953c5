// Package stores reads what the platform's stores hold, after its processes have
// ended, with nothing of the platform's own code where that is possible.
package stores

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // reads the store without the platform's own code
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
)

// SQLite is a store in SQLite.
type SQLite struct{ db *sql.DB }

// OpenSQLite opens the store in a file for reading, also while processes use it.
func OpenSQLite(path string) (SQLite, error) {
	db, err := sql.Open("sqlite3", "file:"+path+"?_query_only=true&_busy_timeout=5000")
	return SQLite{db}, err
}

// Close closes the store.
func (s SQLite) Close() error { return s.db.Close() }

// Integrity returns what SQLite finds wrong with the file; empty for nothing.
func (s SQLite) Integrity(ctx context.Context) string {
	var verdict string
	if err := s.db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		return fmt.Sprintf("SQLite's integrity check says %q, %v", verdict, err)
	}
	return ""
}

// Record is the record of an aggregate.
type Record struct {
	repo.Key
	Version, Sequence int64
	Deleted           bool
	Doc               []byte
}

// Records visits all records of a kind.
func (s SQLite) Records(ctx context.Context, kind string, visit func(Record) error) error {
	return s.Rows(ctx, "SELECT tenant, id, version, sequence, deleted_at, doc FROM r_"+kind, func(scan func(...any) error) error {
		r, deleted := Record{Key: repo.Key{Kind: kind}}, int64(0)
		if err := scan(&r.Tenant, &r.ID, &r.Version, &r.Sequence, &deleted, &r.Doc); err != nil {
			return err
		}
		r.Deleted = deleted != never
		return visit(r)
	})
}

// Has says whether the store keeps a kind.
func (s SQLite) Has(ctx context.Context, kind string) (bool, error) {
	n, err := s.Count(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", "r_"+kind)
	return n > 0, err
}

// Pending visits the messages in the outbox that are to be published, be it again.
func (s SQLite) Pending(ctx context.Context, visit func(stream, id string)) error {
	return s.Rows(ctx, fmt.Sprintf("SELECT stream, message FROM outbox WHERE published_at = %d", never), func(scan func(...any) error) error {
		var stream, id string
		err := scan(&stream, &id)
		visit(stream, id)
		return err
	})
}

// never is how a time that is not set is kept.
const never = int64(1<<63 - 1)

// Count returns the number that a query selects.
func (s SQLite) Count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.db.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// Rows visits the rows that a query selects.
func (s SQLite) Rows(ctx context.Context, query string, visit func(scan func(...any) error) error) (err error) {
	found, err := s.db.QueryContext(ctx, query)
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

// Queue opens the folder of a queue's server that has ended with a server of its
// own, for as long as read takes.
func Queue(folder string, read func(*nats.Conn) error) error {
	s, err := server.NewServer(&server.Options{ServerName: "sluice", DontListen: true, JetStream: true, StoreDir: folder, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(15 * time.Second) {
		return fmt.Errorf("the queue in %s cannot be read", folder)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer nc.Close()
	return read(nc)
}

// Messages visits what is in a stream of the queue, in its order.
func Messages(ctx context.Context, nc *nats.Conn, name string, visit func(repo.Message)) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
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

// Audit proves the audit log and reads it.
func Audit(ctx context.Context, publicKey string, log fs.FS) (entries []audit.Logged, report *audit.Report, err error) {
	text, err := os.ReadFile(publicKey)
	if err != nil {
		return nil, nil, err
	}
	key, err := audit.ParsePublicKey(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, nil, err
	}
	report, err = audit.Verify(ctx, log, audit.Trust{Keys: []audit.PublicKey{key}, Entry: func(l audit.Logged) error {
		entries = append(entries, l)
		return nil
	}})
	return entries, report, err
}

// AuditFolder is Audit of the log in a data folder.
func AuditFolder(ctx context.Context, dir string) ([]audit.Logged, *audit.Report, error) {
	return Audit(ctx, filepath.Join(dir, "audit.pub"), os.DirFS(filepath.Join(dir, "audit")))
}
