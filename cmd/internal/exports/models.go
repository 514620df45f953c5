package exports

import (
	"context"
	"strconv"
	"time"

	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordhttp"
	"sluice/internal/inference/release"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/repo"
)

// predictions are what the log has of all predictions, not only the durable ones.
func predictions(log record.Store) *export.Dataset {
	return &export.Dataset{
		Name: "predictions", Permission: recordhttp.ReadLog, Time: "at", Schema: predictionColumns,
		About: "Entries of the prediction log that were begun before as_of, as far as they had come to the log when it was read. Entries never change.",
		Open: func(_ context.Context, tenant string, s export.Slice) (export.Scan, error) {
			end := s.AsOf
			if !s.To.IsZero() && s.To.Before(end) {
				end = s.To
			}
			q := record.Query{Filter: record.Filter{Tenant: tenant, From: s.From, To: end}, Forward: true, Limit: record.MaxLimit}
			return &scan[record.Entry]{
				schema: predictionColumns,
				page: func(ctx context.Context, after string) (page []record.Entry, next string, err error) {
					if q.After = (record.Place{}); after != "" {
						if q.After, err = record.ParsePlace(after); err != nil {
							return nil, "", err
						}
					}
					if page, err = log.Find(ctx, q); len(page) == q.Limit {
						next = page[len(page)-1].Place().String()
					}
					return page, next, err
				},
				id:    func(e *record.Entry) string { return e.Place().String() },
				count: func(ctx context.Context) (int64, error) { return log.Count(ctx, q.Filter) },
				row:   func(_ context.Context, e *record.Entry, into *table.Chunk) error { predictionRow(e, into); return nil },
			}, nil
		},
	}
}

var predictionColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "attempt", Type: table.Int}, {Name: "at", Type: table.Time}, {Name: "model", Type: table.String}, {Name: "version", Type: table.String},
	{Name: "experiment", Type: table.String}, {Name: "arm", Type: table.String}, {Name: "by_rule", Type: table.Bool}, {Name: "shadow", Type: table.Bool}, {Name: "bulk", Type: table.Bool},
	{Name: "client_ref", Type: table.String}, {Name: "outcome", Type: table.String}, {Name: "code", Type: table.String}, {Name: "rows", Type: table.Int}, {Name: "batch_rows", Type: table.Int},
	{Name: "decode_us", Type: table.Int}, {Name: "queue_us", Type: table.Int}, {Name: "infer_us", Type: table.Int}, {Name: "encode_us", Type: table.Int}, {Name: "total_us", Type: table.Int},
}

func predictionRow(e *record.Entry, c *table.Chunk) {
	r := row{c: c}
	r.text(e.ID.String()).int(int64(e.Attempt)).time(e.At).text(e.Model).some(e.Version)
	r.some(e.Experiment).some(e.Arm).bool(e.ByRule).bool(e.Shadow).bool(e.Bulk)
	r.some(e.ClientRef).text(e.Outcome.String()).some(e.Code).int(int64(e.Rows)).int(int64(e.BatchRows))
	l := e.Latency
	for _, d := range []time.Duration{l.Decode, l.Queue, l.Infer, l.Encode, l.Total} {
		r.int(d.Microseconds())
	}
}

func experiments(from repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "experiments", Permission: rollout.Read, Time: "started_at", Schema: experimentColumns,
		About: "Arms of the platform's experiments, as they were at as_of.",
		Open: func(_ context.Context, _ string, s export.Slice) (export.Scan, error) {
			return sourced(rollout.Experiments, from, s, experimentColumns, experimentRows), nil
		},
	}
}

var experimentColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "model", Type: table.String}, {Name: "alias", Type: table.String}, {Name: "started_at", Type: table.Time}, {Name: "changed_at", Type: table.Time},
	{Name: "stopped", Type: table.Bool}, {Name: "reason", Type: table.String}, {Name: "arm", Type: table.String}, {Name: "version", Type: table.String}, {Name: "digest", Type: table.String}, {Name: "weight", Type: table.Int},
}

func experimentRows(x past[rollout.Experiment], c *table.Chunk) {
	weights := x.State.Config.Allocation.Arms()
	for i, arm := range x.State.Arms {
		r := row{c: c}
		r.text(x.ID).text(x.State.Model).text(x.State.Alias).time(x.Began).time(x.Changed)
		r.bool(x.State.Stopped).some(x.State.Reason).text(arm.Name).text(strconv.FormatInt(arm.Version, 10)).some(arm.Digest).int(int64(weights[i].Weight))
	}
}

func releases(from repo.Reading) *export.Dataset {
	return &export.Dataset{
		Name: "releases", Permission: rollout.Read, Time: "started_at", Schema: releaseColumns,
		About: "The platform's releases, as they were at as_of.",
		Open: func(_ context.Context, _ string, s export.Slice) (export.Scan, error) {
			return sourced(release.Releases, from, s, releaseColumns, releaseRow), nil
		},
	}
}

var releaseColumns = table.Schema{
	{Name: "id", Type: table.String}, {Name: "status", Type: table.String}, {Name: "model", Type: table.String}, {Name: "alias", Type: table.String}, {Name: "champion", Type: table.String}, {Name: "candidate", Type: table.String},
	{Name: "requester", Type: table.String}, {Name: "started_at", Type: table.Time}, {Name: "changed_at", Type: table.Time}, {Name: "step", Type: table.Int}, {Name: "steps", Type: table.Int},
	{Name: "entered_at", Type: table.Time}, {Name: "verdict", Type: table.String}, {Name: "reason", Type: table.String},
}

func releaseRow(x past[release.State], c *table.Chunk) {
	s := x.State
	r := row{c: c}
	r.text(x.ID).text(string(s.Status)).text(s.Plan.Model).text(s.Plan.Alias).text(s.Plan.Champion).text(s.Plan.Candidate)
	r.some(s.Plan.Requester).time(x.Began).time(x.Changed).int(int64(s.Step)).int(int64(len(s.Plan.Steps)))
	r.time(s.EnteredAt).some(string(s.Verdict)).some(s.Reason)
}
