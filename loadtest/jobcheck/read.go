package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/stores"
)

// evidence is what the stores hold after the last process has ended.
type evidence struct {
	predictions map[repo.Key]prediction
	deliveries  []delivery
	usage       map[used]int64    // of durable predictions: how many ended so; nil where none is counted
	quarantined []string          // models
	readModel   map[string]int64  // audit entries: id to index
	pending     map[string]string // messages in the outbox: id to stream
	events      []repo.Message    // in the order of the stream
	leaves      []audit.Logged
	report      *audit.Report
	broken      []string // what is wrong with a store as such
}

// payload is an input or an output.
type payload struct {
	Inline json.RawMessage `json:"inline"`
	Object string          `json:"object"`
	SHA256 string          `json:"sha256"`
	Bytes  int64           `json:"bytes"`
}

// prediction is what the store has of one.
type prediction struct {
	sequence int64

	Status    string  `json:"status"`
	Model     string  `json:"model"`
	Served    string  `json:"served"`
	Digest    string  `json:"digest"`
	ClientRef string  `json:"client_ref"`
	Attempt   int     `json:"attempt"`
	Input     payload `json:"input"`
	Output    payload `json:"output"`
	Failure   *struct {
		Code string `json:"code"`
	} `json:"failure"`
	Deadline    time.Time `json:"deadline"`
	CompletedAt time.Time `json:"completed_at"`
}

// delivery is a webhook on its way.
type delivery struct {
	Event   string `json:"event"`
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Status  string `json:"status"`
	Attempt int    `json:"attempt"`
}

// used names what is counted together.
type used struct{ tenant, model, status string }

// total is what a tenant has used of a model in an hour.
type total struct {
	Used struct {
		Model, Mode                           string
		Succeeded, Failed, Cancelled, Expired int64
	}
}

// add adds up a tenant's totals of durable predictions.
func (t *total) add(tenant string, sums map[used]int64) {
	if t.Used.Mode != "durable" {
		return
	}
	for status, n := range map[string]int64{"succeeded": t.Used.Succeeded, "failed": t.Used.Failed, "cancelled": t.Used.Cancelled, "expired": t.Used.Expired} {
		if n > 0 {
			sums[used{tenant, t.Used.Model, status}] += n
		}
	}
}

// read reads everything.
func read(ctx context.Context, p places) (*evidence, error) {
	e := &evidence{predictions: map[repo.Key]prediction{}, readModel: map[string]int64{}, pending: map[string]string{}}
	if err := e.readStore(ctx, filepath.Join(p.data, "sluice.db")); err != nil {
		return nil, err
	}
	err := stores.Queue(p.queue, func(nc *nats.Conn) error {
		return stores.Messages(ctx, nc, "EVENTS", func(m repo.Message) { e.events = append(e.events, m) })
	})
	if err != nil {
		return nil, err
	}
	e.leaves, e.report, err = stores.AuditFolder(ctx, p.data)
	return e, err
}

func (e *evidence) readStore(ctx context.Context, path string) (err error) {
	s, err := stores.OpenSQLite(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if problem := s.Integrity(ctx); problem != "" {
		e.broken = append(e.broken, problem)
	}
	for kind, add := range map[string]func(stores.Record) error{
		"predictions": func(r stores.Record) error {
			v := prediction{sequence: r.Sequence}
			err := json.Unmarshal(r.Doc, &v)
			e.predictions[r.Key] = v
			return err
		},
		"webhook_deliveries": func(r stores.Record) error {
			var v delivery
			err := json.Unmarshal(r.Doc, &v)
			e.deliveries = append(e.deliveries, v)
			return err
		},
		"audit_entries": func(r stores.Record) error {
			var v struct{ Index int64 }
			err := json.Unmarshal(r.Doc, &v)
			e.readModel[r.ID] = v.Index
			return err
		},
	} {
		if err := s.Records(ctx, kind, add); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	if err := e.readMore(ctx, s); err != nil {
		return err
	}
	return s.Pending(ctx, func(stream, id string) { e.pending[id] = stream })
}

// readMore reads what the store need not have.
func (e *evidence) readMore(ctx context.Context, s stores.SQLite) error {
	if has, err := s.Has(ctx, "usage"); err != nil {
		return err
	} else if has {
		e.usage = map[used]int64{}
		err := s.Records(ctx, "usage", func(r stores.Record) error {
			var t total
			err := json.Unmarshal(r.Doc, &t)
			t.add(r.Tenant, e.usage)
			return err
		})
		if err != nil {
			return err
		}
	}
	if has, err := s.Has(ctx, "quarantines"); err != nil || !has {
		return err
	}
	return s.Records(ctx, "quarantines", func(r stores.Record) error {
		var q struct {
			Model  string
			Active bool
		}
		err := json.Unmarshal(r.Doc, &q)
		if q.Active {
			e.quarantined = append(e.quarantined, q.Model)
		}
		return err
	})
}
