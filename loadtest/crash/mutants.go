package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sluice/loadtest/crash/overlay"
)

// mutant is a defect that the checks must find. It is built in by replacing text
// in sources at build time: nothing of it is in the program.
type mutant struct {
	name  string
	edits []edit
	// finds are the beginnings of problems of which one must be found.
	finds []string
}

type edit struct{ file, from, to string }

const platform = "internal/platform/"

// mutants are defects that would each break a promise. Those whose moment is a
// few microseconds long are made longer, for a killing to hit it.
var mutants = []mutant{
	{"messages are marked before they are published, and never published again", []edit{
		{platform + "relay/relay.go", "	failed := r.publisher.Publish(ctx, batch...)\n", "	if err := r.outbox.Published(ctx, shard, pending, r.store.Now()); err != nil {\n		return 0, err\n	}\n	time.Sleep(20 * time.Millisecond)\n	failed := r.publisher.Publish(ctx, batch...)\n"},
		{platform + "relay/shard.go", "	r.republish(ctx, shard)\n	trimmed", "	trimmed"},
	}, []string{"not drained", "half", "disorder", "not once"}},
	{"one message in a hundred does not reach the outbox", []edit{
		{platform + "repo/sqliterepo/commit.go", "		m := &c.Messages[i]\n", "		m := &c.Messages[i]\n		if m.ID[len(m.ID)-1] == '7' && m.ID[len(m.ID)-2] < '2' {\n			continue\n		}\n"},
	}, []string{"half", "not once", "disorder"}},
	{"the audit entry is written after the unit of work", []edit{
		{platform + "cqrs/middleware.go", "	return publish(tx, e)\n}\n\n// auditTime", "	tx.AfterCommit(func() {\n		time.Sleep(5 * time.Millisecond)\n		_ = b.store.Do(context.Background(), repo.Scope{Tenant: tx.Tenant(), Actor: e.Actor, Request: e.Request, Operation: tx.Scope().Operation}, func(_ context.Context, tx *repo.Tx) error { return publish(tx, e) })\n	})\n	return nil\n}\n\n// auditTime"},
	}, []string{"half", "not once"}},
	{"the group commit answers before it commits", []edit{
		{platform + "repo/sqliterepo/writer.go", "	if err := w.conn.Exec(newStatement(\"COMMIT\")); err != nil {", "	for _, j := range batch {\n		j.outcome <- j.err\n	}\n	time.Sleep(10 * time.Millisecond)\n	if err := w.conn.Exec(newStatement(\"COMMIT\")); err != nil {"},
		{platform + "repo/sqliterepo/writer.go", "		j.outcome <- j.err\n	}\n	if messages", "		select {\n		case j.outcome <- j.err:\n		default:\n		}\n	}\n	if messages"},
	}, []string{"lost", "half", "reading", "deletion", "restoration", "change", "forgotten", "unanswered"}},
	{"there is no inbox", []edit{
		{platform + "repo/store.go", "			tx.marks = append(tx.marks, Mark{consumer, m, s.Now().Add(keep)})\n", "			_, _ = m, keep\n"},
	}, []string{"not once", "twice", "lost", "creation", "change"}},
	{"an audit entry is noted in the read model only", []edit{
		{platform + "audit/trail/gather.go", "	indexes, err := t.append(logging, fresh)\n", "	indexes, err := make([]int64, len(fresh)), error(nil)\n	for i, a := range fresh {\n		if a.entry.ID[len(a.entry.ID)-1] != '7' && err == nil {\n			var one []int64\n			if one, err = t.append(logging, fresh[i:i+1]); err == nil {\n				indexes[i] = one[0]\n			}\n		}\n	}\n"},
	}, []string{"audit", "not once"}},
	{"a batch is published in the wrong order", []edit{
		{platform + "relay/relay.go", "	failed := r.publisher.Publish(ctx, batch...)\n", "	slices.Reverse(batch)\n	slices.Reverse(pending)\n	failed := r.publisher.Publish(ctx, batch...)\n"},
		{platform + "relay/relay.go", "	\"log/slog\"\n", "	\"log/slog\"\n	\"slices\"\n"},
	}, []string{"disorder"}},
}

// build builds the defect into what an overlay has.
func (m *mutant) build(o *overlay.Overlay) error {
	for _, e := range m.edits {
		if err := o.Replace(e.file, e.from, e.to); err != nil {
			return fmt.Errorf("the defect %q cannot be built in: %w", m.name, err)
		}
	}
	return nil
}

// selftest builds every mutant and has its scenario find it.
func selftest(ctx context.Context, s *settings) (err error) {
	var missed []string
	all := slices.Concat(mutants, jobMutants, batchMutants)
	for i := range all {
		m := &all[i]
		if len(s.only) > 0 && !slices.ContainsFunc(s.only, func(part string) bool { return strings.Contains(m.name, part) }) {
			continue
		}
		one := *s
		one.dir = filepath.Join(s.dir, fmt.Sprintf("mutant-%d", i))
		if err := os.MkdirAll(one.dir, 0o755); err != nil {
			return err
		}
		if one.changes, err = overlay.New("."); err != nil {
			return err
		}
		if err := m.build(one.changes); err != nil {
			return err
		}
		switch {
		case i >= len(mutants)+len(jobMutants):
			err = batches(ctx, &one)
		case i >= len(mutants):
			err = jobs(ctx, &one)
		default:
			if err = one.programs(ctx); err == nil {
				err = killed(ctx, &one)
			}
		}
		if m.foundBy(err) {
			fmt.Fprintf(s.out, "found     %s\n", m.name)
			continue
		}
		fmt.Fprintf(s.out, "MISSED    %s: %v\n", m.name, err)
		missed = append(missed, m.name)
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d of %d defects were not found: %s", len(missed), len(all), strings.Join(missed, "; "))
	}
	return nil
}

// foundBy says whether an error tells of what the mutant breaks.
func (m *mutant) foundBy(err error) bool {
	if err == nil {
		return false
	}
	for _, want := range m.finds {
		if strings.Contains(err.Error(), "\n  "+want) {
			return true
		}
	}
	return false
}
