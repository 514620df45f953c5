package run

import (
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// A batch that fails because something is not there ends at once: nothing of it is tried again.
func TestFailedOfNotFound(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 30)
	b.model.fail = func() error { return fault.New(fault.NotFound, "there is no such view").WithCode("view_not_found") }
	if err := b.work(t.Context()); err != nil {
		t.Error(err)
	}
	if found := b.find(); found.Status != job.Failed || found.Failure.Code != "view_not_found" {
		t.Errorf("%s, %+v", found.Status, found.Failure)
	}
}

// Columns of results have names of their own, whatever outputs are called.
func TestSchemaNames(t *testing.T) {
	outputs := []Port{{Name: "output.index", Type: "FP32"}, {Name: "index", Type: "FP32"}, {Name: "row_error_code", Type: "FP32"}, {Name: "error_code", Type: "FP32"}}
	b := &job.Batch{Spec: ingest.Spec{Keep: []string{"input.index", "index"}}}
	if s := Schema(b, &Model{Outputs: outputs}); s.Check() != nil || s[3] != (table.Field{Name: "output.output.index", Type: table.Float32}) {
		t.Errorf("%v: %+v", s.Check(), s)
	}
}
