package serve

import (
	"context"
	"testing"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
)

type counts struct{ answered, spared, failed int64 }

func (c *counts) Answered(experiment.Reason, time.Duration) { c.answered++ }
func (c *counts) Spared(experiment.Reason)                  { c.spared++ }
func (c *counts) Failed(experiment.Reason)                  { c.failed++ }

// Arms are judged by the same numbers, whether they were counted here or in the log.
func TestMeterCountsAsTheLogDoes(t *testing.T) {
	for name, err := range map[string]error{
		"succeeded": nil, "invalid": fault.New(fault.Invalid, "x"), "not found": fault.New(fault.NotFound, "x"), "too large": fault.New(fault.TooLarge, "x"),
		"cancelled": context.Canceled, "late": context.DeadlineExceeded, "full": fault.New(fault.Exhausted, "x"), "away": fault.New(fault.Unavailable, "x"), "broken": fault.New(fault.Internal, "x"),
	} {
		c, logged := &counts{}, &record.Rollup{}
		for _, class := range []batcher.Class{batcher.Online, batcher.Bulk} {
			meter(&route.Choice[*Version]{Split: &route.Split{Arms: []route.Arm{{Meter: c}}}}, class, time.Now(), err)
			logged.Count(&record.Entry{Outcome: record.OutcomeOf(err)})
		}
		if n := logged.Numbers("").Requests; n.N != c.answered+c.spared+c.failed || c.answered != c.spared || n.Hits != c.failed {
			t.Errorf("%s: the log counts %+v, the meter %+v", name, n, *c)
		}
	}
}
