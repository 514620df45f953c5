package scyllarepo

import (
	"slices"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

const (
	doneFor   = 10 * time.Minute // longer than any commit tries
	markFor   = 10 * time.Minute // at least, whatever the clock that made it says
	erasedFor = 24 * time.Hour
)

// work is a changeset as it is written: rows of one partition.
type work struct {
	*repo.Changeset
	key    repo.Key
	put    *repo.Put   // nil where nothing is
	check  *repo.Check // nil unless put is
	commit gocql.UUID  // names this try; its time is the hint's place in the outbox
	at     time.Time
	state  state   // after it; without a put only its stamp
	before []entry // what the record was found by; set when it is read
}

// eventsOnly says whether there are events of an aggregate, but not the aggregate:
// it was made and erased in one unit of work.
func (w *work) eventsOnly() bool {
	return w.put == nil && slices.ContainsFunc(w.Messages, func(m repo.Message) bool { return m.Sequence > 0 })
}

// conditional says whether anything may forbid the commit.
func (w *work) conditional() bool { return w.put != nil || w.check != nil || len(w.Marks) > 0 }

// alone says whether the commit is in the partition of its only mark.
func (w *work) alone() bool { return w.key.Kind == inbox }

// arrange decides which partition a changeset belongs to, and refuses what does
// not fit into one.
func arrange(c *repo.Changeset, now time.Time) (*work, error) {
	w := &work{Changeset: c, commit: gocql.UUIDFromTime(now), at: now}
	checks := c.Checks
	for len(checks) > 1 && checks[0] == checks[1] {
		checks = checks[1:]
	}
	switch n := len(c.Puts) + len(checks); {
	case n > 1:
		return nil, oneOnly("it changes or requires %d", n)
	case len(c.Puts) == 1:
		w.put, w.key = &c.Puts[0], c.Puts[0].Key
	case n == 1:
		w.check, w.key = &checks[0], checks[0].Key
	case len(c.Marks) > 1:
		return nil, oneOnly("it handles %d messages", len(c.Marks))
	case len(c.Marks) == 1:
		w.key = markKey(c.Marks[0])
	default:
		w.key = c.Messages[0].Key
	}
	for _, m := range c.Messages {
		if m.Keep && m.Key != w.key {
			return nil, oneOnly("it keeps a message of another %s", m.Kind)
		}
	}
	return w, nil
}

func oneOnly(format string, args ...any) error {
	return fault.Wrap(fault.Unsupported, fault.New(fault.Unsupported, format, args...), "this store changes one aggregate in a unit of work").WithCode("one_aggregate_only")
}

// statement is one of a batch.
type statement struct {
	text string
	args []any
}

// statements returns the rows that the changeset writes. Without a condition
// they may be written again with the same effect.
func (w *work) statements() ([]statement, error) {
	var out []statement
	add := func(text string, args ...any) { out = append(out, statement{text, args}) }
	k := w.key
	switch {
	case w.put != nil && w.put.Erase:
		out = append(out, w.erase()...)
	case w.put != nil:
		r := &w.state
		add(`UPDATE aggregates SET version = ?, sequence = ?, created_at = ?, created_by = ?, updated_at = ?, updated_by = ?, deleted_at = ?, expires_at = ?, doc = ?, fields = ?, stamp = ?`+
			` WHERE tenant = ? AND kind = ? AND id = ? AND part = 'state' AND ref = '' IF version = ?`,
			r.Version, r.Sequence, micros(r.CreatedAt), r.CreatedBy, micros(r.UpdatedAt), r.UpdatedBy, micros(r.DeletedAt), micros(r.ExpiresAt), r.Doc, r.fields, r.stamp,
			k.Tenant, k.Kind, k.ID, versionOf(w.put.Expect))
	case w.check != nil:
		// A condition needs a statement: this one removes what is never there.
		add(`DELETE size FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'state' AND ref = '' IF version = ?`,
			k.Tenant, k.Kind, k.ID, versionOf(w.check.Version))
	}
	if len(w.Marks) > 0 {
		if w.alone() {
			claim, err := w.claimOf(w.Marks[0])
			if err != nil {
				return nil, err
			}
			out = append(out, claim)
		} else {
			add(insertProof, k.Tenant, k.Kind, k.ID, w.commit.String(), true, w.markSeconds())
		}
	}
	messages, err := w.outgoing()
	if err != nil {
		return nil, err
	}
	out = append(out, messages...)
	if w.conditional() {
		add(`INSERT INTO aggregates (tenant, kind, id, part, ref, keep) VALUES (?, ?, ?, 'done', ?, true) USING TTL ?`,
			k.Tenant, k.Kind, k.ID, w.commit.String(), cql.Seconds(doneFor))
	}
	return out, nil
}

// erase removes all of a record but its stamp, which ends by itself.
func (w *work) erase() []statement {
	k := w.key
	return []statement{
		{`DELETE version, sequence, created_at, created_by, updated_at, updated_by, deleted_at, expires_at, doc, fields FROM aggregates` +
			` WHERE tenant = ? AND kind = ? AND id = ? AND part = 'state' AND ref = '' IF version = ?`,
			[]any{k.Tenant, k.Kind, k.ID, versionOf(w.put.Expect)}},
		{`UPDATE aggregates USING TTL ? SET stamp = ? WHERE tenant = ? AND kind = ? AND id = ? AND part = 'state' AND ref = ''`,
			[]any{cql.Seconds(erasedFor), w.state.stamp, k.Tenant, k.Kind, k.ID}},
		{`DELETE FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'hist'`, []any{k.Tenant, k.Kind, k.ID}},
	}
}

// outgoing are the rows of the messages: in the outbox, and in the history those
// that are kept.
func (w *work) outgoing() ([]statement, error) {
	k := w.key
	var out []statement
	for i, m := range w.Messages {
		head, data, err := encodeMessage(m)
		if err != nil {
			return nil, err
		}
		out = append(out, statement{insertOut, []any{k.Tenant, k.Kind, k.ID, outRef(w.state.stamp, w.at, i, m.ID), head, data, m.Keep, w.commit, len(w.Messages)}})
		if m.Keep {
			out = append(out, statement{`INSERT INTO aggregates (tenant, kind, id, part, ref, message, data) VALUES (?, ?, ?, 'hist', ?, ?, ?)`,
				[]any{k.Tenant, k.Kind, k.ID, histRef(m.Sequence), head, data}})
		}
	}
	return out, nil
}

const insertOut = `INSERT INTO aggregates (tenant, kind, id, part, ref, message, data, keep, due, size) VALUES (?, ?, ?, 'out', ?, ?, ?, ?, ?, ?)`

// versionOf returns a version for a condition: a record that is not there has none.
func versionOf(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}
