package rollouthttp

import (
	"time"

	"sluice/internal/inference/evaluation/evaluationhttp"
	"sluice/internal/inference/evidence"
	"sluice/internal/inference/rollout"
)

// Replaying says what a release's candidate is asked again, and how alike its answers have to
// be to those of the version that the alias names.
type Replaying struct {
	Source             evaluationhttp.EvaluationSource   `json:"source"`
	SegmentBy          []string                          `json:"segment_by,omitempty" maxItems:"8" doc:"As of evaluations."`
	Compare            *evaluationhttp.EvaluationCompare `json:"compare,omitempty"`
	MaxRows            int64                             `json:"max_rows,omitempty" minimum:"0"`
	MaxTime            string                            `json:"max_time,omitempty" maxLength:"20"`
	MaxFlipRate        float64                           `json:"max_flip_rate" minimum:"0" exclusiveMaximum:"1" doc:"Of all rows: more, and the release is rolled back."`
	MaxSegmentFlipRate *float64                          `json:"max_segment_flip_rate,omitempty" minimum:"0" exclusiveMaximum:"1" doc:"Of each segment of 30 rows or more, as far as these are enough to say so; it takes segment_by."`
	MinRows            int64                             `json:"min_rows" minimum:"1" doc:"That have to be compared: with fewer the release is rolled back, since nothing is known."`
}

// StepReplay names the evaluation that a step waits for.
type StepReplay struct {
	Evaluation string `json:"evaluation"`
}

// ReplayLimit limits how answers to what was asked before differ.
type ReplayLimit evidence.Replay

// start returns what the service is asked for, nil for nothing.
func (r *Replaying) start(model string) (*rollout.StartReplay, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // nil does not wait
	}
	asked := evaluationhttp.NewEvaluation{Source: r.Source, SegmentBy: r.SegmentBy, Compare: r.Compare, MaxRows: r.MaxRows, MaxTime: r.MaxTime}
	in, err := asked.Start(model, time.Now())
	if err != nil {
		return nil, err
	}
	return &rollout.StartReplay{Evaluation: in, Gate: evidence.Replay{MaxFlipRate: r.MaxFlipRate, MaxSegmentFlipRate: r.MaxSegmentFlipRate, MinRows: r.MinRows}}, nil
}
