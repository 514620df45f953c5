package exports

import (
	"context"
	"time"

	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/inference/job"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Datasets returns what can be exported of a store.
func Datasets(store *repo.Store) []*export.Dataset {
	read := func(tenant string) repo.Reading { return store.Read(repo.Scope{Tenant: tenant, Actor: "system"}) }
	return []*export.Dataset{
		{
			Name: "predictions", Permission: job.Read, Time: "created_at", Schema: predictionColumns,
			About: "Durable predictions that were accepted before as_of, each as it is when it is read, without inputs and outputs.",
			Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
				return &scan[job.ID, job.Prediction]{kind: job.Predictions, from: read(tenant), schema: predictionColumns, row: predictionRow,
					keep: func(p *job.Prediction) bool { return p.CreatedAt.Before(s.AsOf) && s.Holds(p.CreatedAt) }}, nil
			},
		},
		{
			Name: "usage", Permission: usage.Read, Time: "hour", Schema: usageColumns,
			About: "What models did in each hour that had ended at as_of, by model, version and mode.",
			Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
				return &scan[usage.ID, usage.Total]{kind: usage.Totals, from: read(tenant), schema: usageColumns, row: usageRow,
					query: within(usageHour, s, s.AsOf.Truncate(time.Hour))}, nil
			},
		},
		{
			Name: "audit_entries", Permission: trail.Read, Time: "time", Schema: auditColumns,
			About: "Who did what before as_of, as far as it had come to the log when it was read. Entries never change.",
			Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
				return &scan[trail.EntryID, trail.Entry]{kind: trail.Entries, from: read(tenant), schema: auditColumns, row: auditRow,
					query: within(auditTime, s, s.AsOf)}, nil
			},
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

var predictionColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "status", Type: table.String}, {Name: "model", Type: table.String}, {Name: "version", Type: table.String},
	{Name: "digest", Type: table.String}, {Name: "client_ref", Type: table.String}, {Name: "priority", Type: table.String},
	{Name: "created_at", Type: table.Time}, {Name: "started_at", Type: table.Time}, {Name: "completed_at", Type: table.Time}, {Name: "deadline_at", Type: table.Time},
	{Name: "attempts", Type: table.Int}, {Name: "queue_ms", Type: table.Float}, {Name: "batch_ms", Type: table.Float}, {Name: "infer_ms", Type: table.Float},
	{Name: "batch_size", Type: table.Int}, {Name: "rows", Type: table.Int}, {Name: "compute_us", Type: table.Int},
	{Name: "input_bytes", Type: table.Int}, {Name: "output_bytes", Type: table.Int}, {Name: "error_code", Type: table.String}, {Name: "error_message", Type: table.String},
}

func predictionRow(p *job.Prediction, c *table.Chunk) {
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

// row appends the cells of a row, from the first column on.
type row struct {
	c *table.Chunk
	i int
}

func (r *row) next() *table.Column {
	r.i++
	return r.c.Column(r.i - 1)
}

func (r *row) text(v string) *row   { r.next().AppendString(v); return r }
func (r *row) int(v int64) *row     { r.next().AppendInt(v); return r }
func (r *row) float(v float64) *row { r.next().AppendFloat(v); return r }

// some is null for an empty text.
func (r *row) some(v string) *row {
	if v == "" {
		r.next().AppendNull()
		return r
	}
	return r.text(v)
}

// time is null for the zero time.
func (r *row) time(v time.Time) *row {
	if v.IsZero() {
		r.next().AppendNull()
		return r
	}
	return r.int(v.UnixMicro())
}
