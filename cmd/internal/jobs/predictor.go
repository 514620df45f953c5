package jobs

import (
	"context"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
)

// predictor has the models answer durable predictions: work that waits for spare
// rows of online requests' runs.
type predictor struct {
	models serve.Models
	memory *budget.Budget
}

// Version implements job.Predictor.
func (p predictor) Version(model, version string) (string, error) {
	v, err := p.models.Lookup(model, version)
	if err != nil {
		return "", err
	}
	return v.Text, nil
}

// Progress implements job.Predictor.
func (p predictor) Progress(model, version string) int64 {
	v, err := p.models.Lookup(model, version)
	if err != nil {
		return 0
	}
	return v.Stats.Executions.Load() + v.Stats.Broken.Load()
}

// Predict implements job.Predictor.
func (p predictor) Predict(ctx context.Context, q job.Question) (job.Answer, error) {
	id, _ := record.ParseID(string(q.ID)) // of another form it is logged under an id of its own
	a, err := oip.Answer(ctx, p.models, p.memory, oip.Question{Model: q.Model, Version: q.Version, Body: q.Input.Body, Text: q.Input.Text, Class: batcher.Bulk, Tenant: q.Tenant,
		Prediction: id, Attempt: q.Attempt, ClientRef: q.ClientRef, AsOf: q.Accepted,
		Choice: record.Choice{Experiment: q.Arm.Experiment, Arm: q.Arm.Name, ByRule: q.Arm.ByRule}})
	if err != nil {
		return job.Answer{}, err
	}
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return job.Answer{Output: job.Message{Body: a.Body, Text: a.Text}, Version: a.Version, Digest: a.SHA256, BatchMS: millis(a.Timing.Queue), InferMS: millis(a.Timing.Infer), Rows: a.Timing.BatchRows,
		Used: job.Used{Rows: int64(a.Use.Rows), ComputeUS: a.Use.Compute.Microseconds(), InputBytes: a.Use.InputBytes, OutputBytes: a.Use.OutputBytes}}, nil
}
