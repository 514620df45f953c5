package evaluationhttp

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

var now = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

func TestAsked(t *testing.T) {
	for text, want := range map[string]evaluation.Start{
		`{"candidate":"2","baseline":"logged","source":{"hours":24}}`: {Candidate: "2", Request: evaluation.Request{Logged: &evaluation.Logged{From: now.Add(-24 * time.Hour), To: now, Sample: 1}}},
		`{"name":"n","candidate":"2","baseline":"champion","source":{"from":"2026-01-01T00:00:00.000Z","to":"2026-01-01T06:00:00.000Z","sample":0.5,"version":"1","experiment":"e","arm":"a"},"segment_by":["arm"],"max_rows":9,"max_time":"5m","compare":{"values":true,"relative":0.1}}`: {
			Name: "n", Candidate: "2", Baseline: "champion", Request: evaluation.Request{By: []string{"arm"}, MaxRows: 9, MaxTime: 5 * time.Minute,
				Compare: shadow.Config{Top: 5, MaxElements: 1 << 20, Values: true, Tolerance: &shadow.Tolerance{Relative: 0.1}},
				Logged:  &evaluation.Logged{From: now.Add(-24 * time.Hour), To: now.Add(-18 * time.Hour), Sample: 0.5, Version: "1", Experiment: "e", Arm: "a"}}},
	} {
		var in NewEvaluation
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			t.Fatal(err)
		}
		want.Model = "m"
		got, err := in.Start("m", now)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", text, err, diff)
		}
	}
	for _, text := range []string{`{"source":{}}`, `{"source":{"hours":1,"from":"2026-01-01T00:00:00.000Z"}}`, `{"source":{"hours":1},"max_time":"soon"}`, `{"source":{"hours":1},"max_time":"-1s"}`} {
		var in NewEvaluation
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Start("m", now); fault.CodeOf(err) != "evaluation_invalid" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What tells what was asked is shown to who may read that; a rate of nothing is none.
func TestView(t *testing.T) {
	e := &edge{prefix: "/v1"}
	x := &evaluation.Evaluation{Status: evaluation.Completed, Keep: now, Request: evaluation.Request{Model: "m", Candidate: evaluation.Version{Number: "2", Digest: "ab"},
		Logged: &evaluation.Logged{From: now, To: now, Sample: 1}, By: []string{"arm", "in/x"}}}
	x.ID = "eval_1"
	x.Done = evaluation.Checkpoint{Chunks: 1, Diff: evaluation.Diff{Rows: 1, Bytes: 9, SHA256: "cd"}, Result: evaluation.Result{Count: evaluation.Count{Rows: 4, Flips: 1}, Skipped: map[evaluation.Skip]int64{evaluation.NoContent: 3},
		Segments: []evaluation.Segments{{By: "arm", Values: map[string]*evaluation.Count{"a": {Rows: 2}, "b": {Rows: 2, Flips: 1}}, Others: evaluation.Count{Rows: 1}}, {By: "in/x", Values: map[string]*evaluation.Count{"7": {Rows: 4, Flips: 1}}}}}}
	v := e.view(x, true)
	if r := v.Result; *r.Rate != 0.25 || r.Skipped["no_content"] != 3 || len(r.Segments) != 2 || r.Segments[0].Values[0].Value != "b" || r.Segments[0].Values[2].Value != evaluation.Others ||
		!cmp.Equal(v.Diff, &EvaluationDiff{"/v1/evaluations/eval_1/diff", 1, 9, "cd"}) || *v.ExpiresAt != (api.Time{Time: now}) || v.Baseline != (EvaluationSide{}) {
		t.Errorf("%+v %+v", v, v.Result)
	}
	if v = e.view(x, false); len(v.Result.Segments) != 1 || v.Result.Segments[0].By != "arm" {
		t.Errorf("%+v", v.Result.Segments)
	}
	x.Done.Result = evaluation.Result{}
	if v = e.view(x, true); v.Result.Rate != nil || v.Result.Low != 0 || v.Result.High != 1 || v.Result.LatencyRatio != nil {
		t.Errorf("%+v", v.Result)
	}
}
