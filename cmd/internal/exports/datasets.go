package exports

import (
	"context"
	"time"

	"sluice/internal/batch/export"
	batch "sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/inference/job"
	"sluice/internal/inference/record"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Datasets returns what can be exported of a store, and of a prediction log that is
// the same for all processes; nil where there is none.
func Datasets(store *repo.Store, log record.Store) []*export.Dataset {
	of := func(tenant string) repo.Reading { return store.Read(repo.Scope{Tenant: tenant, Actor: "system"}) }
	sets := []*export.Dataset{jobs(of), batches(of), experiments(of("")), releases(of("")), usages(of), auditEntries(of)}
	if log != nil {
		sets = append([]*export.Dataset{predictions(log)}, sets...)
	}
	return sets
}

func jobs(of func(tenant string) repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "jobs", Permission: job.Read, Time: "created_at", Schema: jobColumns,
		About: "Durable predictions that were accepted before as_of, each as it is when it is read, without inputs and outputs.",
		Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
			keep := func(p *job.Prediction) bool { return p.CreatedAt.Before(s.AsOf) && s.Holds(p.CreatedAt) }
			return aggregates(job.Predictions, of(tenant), spec.Query[job.Prediction]{}, jobColumns, keep, jobRow), nil
		},
	}
}

func batches(of func(tenant string) repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "batches", Permission: batch.Read, Time: "created_at", Schema: batchColumns,
		About: "Batches that were accepted before as_of, each as it is when it is read, with the counts of its rows.",
		Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
			keep := func(b *batch.Batch) bool { return b.CreatedAt.Before(s.AsOf) && s.Holds(b.CreatedAt) }
			return aggregates(batch.Batches, of(tenant), spec.Query[batch.Batch]{}, batchColumns, keep, batchRow), nil
		},
	}
}

func usages(of func(tenant string) repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "usage", Permission: usage.Read, Time: "hour", Schema: usageColumns,
		About: "What models did in each hour that had ended at as_of, by model, version and mode.",
		Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
			return aggregates(usage.Totals, of(tenant), within(usageHour, s, s.AsOf.Truncate(time.Hour)), usageColumns, nil, usageRow), nil
		},
	}
}

func auditEntries(of func(tenant string) repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "audit_entries", Permission: trail.Read, Time: "time", Schema: auditColumns,
		About: "Who did what before as_of, as far as it had come to the log when it was read. Entries never change.",
		Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
			return aggregates(trail.Entries, of(tenant), within(auditTime, s, s.AsOf), auditColumns, nil, auditRow), nil
		},
	}
}

var (
	usageHour = spec.TimeField("hour", func(t *usage.Total) time.Time { return t.Hour })
	auditTime = spec.TimeField("time", func(e *trail.Entry) time.Time { return e.Time })
)

// within selects what has a time in a slice and before an end, in its order.
func within[A any](column spec.Field[A, time.Time], s export.Slice, end time.Time) spec.Query[A] {
	if !s.To.IsZero() && s.To.Before(end) {
		end = s.To
	}
	where := column.Lt(end)
	if !s.From.IsZero() {
		where = spec.And(column.Ge(s.From), where)
	}
	return spec.Query[A]{Where: where, Order: column.Asc()}
}

var jobColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "status", Type: table.String}, {Name: "model", Type: table.String}, {Name: "version", Type: table.String},
	{Name: "digest", Type: table.String}, {Name: "client_ref", Type: table.String}, {Name: "priority", Type: table.String},
	{Name: "created_at", Type: table.Time}, {Name: "started_at", Type: table.Time}, {Name: "completed_at", Type: table.Time}, {Name: "deadline_at", Type: table.Time},
	{Name: "attempts", Type: table.Int}, {Name: "queue_ms", Type: table.Float}, {Name: "batch_ms", Type: table.Float}, {Name: "infer_ms", Type: table.Float},
	{Name: "batch_size", Type: table.Int}, {Name: "rows", Type: table.Int}, {Name: "compute_us", Type: table.Int},
	{Name: "input_bytes", Type: table.Int}, {Name: "output_bytes", Type: table.Int}, {Name: "error_code", Type: table.String}, {Name: "error_message", Type: table.String},
}

func jobRow(p *job.Prediction, c *table.Chunk) {
	r := row{c: c}
	r.text(string(p.ID)).text(string(p.Status)).text(p.Model).some(p.Served).some(p.Digest).some(p.ClientRef).text(string(p.Urgency()))
	r.time(p.CreatedAt).time(p.StartedAt).time(p.CompletedAt).time(p.Deadline)
	m := p.Metrics
	r.int(int64(p.Attempt)).float(m.QueueMS).float(m.BatchMS).float(m.InferMS)
	r.int(int64(m.BatchSize)).int(m.Used.Rows).int(m.Used.ComputeUS).int(m.Used.InputBytes).int(m.Used.OutputBytes)
	if f := p.Failure; f != nil {
		r.some(f.Code).some(f.Message)
	} else {
		r.some("").some("")
	}
}

var batchColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "status", Type: table.String}, {Name: "model", Type: table.String}, {Name: "version", Type: table.String},
	{Name: "created_at", Type: table.Time}, {Name: "started_at", Type: table.Time}, {Name: "completed_at", Type: table.Time}, {Name: "deadline_at", Type: table.Time},
	{Name: "rows", Type: table.Int}, {Name: "succeeded", Type: table.Int}, {Name: "failed", Type: table.Int}, {Name: "cancelled", Type: table.Int}, {Name: "expired", Type: table.Int}, {Name: "pending", Type: table.Int},
	{Name: "retries", Type: table.Int}, {Name: "compute_us", Type: table.Int}, {Name: "input_bytes", Type: table.Int}, {Name: "output_bytes", Type: table.Int},
	{Name: "error_code", Type: table.String}, {Name: "error_message", Type: table.String},
}

func batchRow(b *batch.Batch, c *table.Chunk) {
	r := row{c: c}
	r.text(string(b.ID)).text(string(b.Status)).text(b.Model).some(b.ModelVersion)
	r.time(b.CreatedAt).time(b.StartedAt).time(b.CompletedAt).time(b.Deadline)
	n, u := b.Counts, b.Used
	r.int(n.Total).int(n.Succeeded).int(n.Failed).int(n.Cancelled).int(n.Expired).int(n.Pending())
	r.int(int64(b.Retries)).int(u.ComputeUS).int(u.InputBytes).int(u.OutputBytes)
	if f := b.Failure; f != nil {
		r.some(f.Code).some(f.Message)
	} else {
		r.some("").some("")
	}
}

var usageColumns = table.Schema{
	{Name: "hour", Type: table.Time}, {Name: "model", Type: table.String}, {Name: "version", Type: table.String}, {Name: "mode", Type: table.String},
	{Name: "requests", Type: table.Int}, {Name: "succeeded", Type: table.Int}, {Name: "failed", Type: table.Int}, {Name: "cancelled", Type: table.Int},
	{Name: "expired", Type: table.Int}, {Name: "rows", Type: table.Int}, {Name: "compute_us", Type: table.Int},
	{Name: "input_bytes", Type: table.Int}, {Name: "output_bytes", Type: table.Int},
}

func usageRow(t *usage.Total, c *table.Chunk) {
	u := t.Used
	r := row{c: c}
	r.time(t.Hour).text(u.Model).some(u.Version).text(string(u.Mode))
	r.int(u.Requests).int(u.Succeeded).int(u.Failed).int(u.Cancelled).int(u.Expired).int(u.Rows).int(u.ComputeUS).int(u.InputBytes).int(u.OutputBytes)
}

var auditColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "time", Type: table.Time}, {Name: "actor", Type: table.String}, {Name: "action", Type: table.String},
	{Name: "kind", Type: table.String}, {Name: "resource", Type: table.String}, {Name: "outcome", Type: table.String}, {Name: "code", Type: table.String},
	{Name: "request", Type: table.String}, {Name: "correlation", Type: table.String}, {Name: "change", Type: table.String}, {Name: "log_index", Type: table.Int},
}

func auditRow(e *trail.Entry, c *table.Chunk) {
	r := row{c: c}
	r.text(e.Entry.ID).time(e.Time).some(e.Actor).text(e.Action).some(e.Kind).some(e.Resource).text(string(e.Outcome)).some(e.Code)
	r.some(e.Request).some(e.Correlation).some(e.Change).int(e.Index)
}
