package serve

import (
	"context"
	"slices"
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
			meter(&route.Choice[*Version]{Split: &route.Split{Arms: []route.Arm{{Meter: c}}}}, &call{request: Request{Class: class}}, time.Now(), err)
			logged.Count(&record.Entry{Outcome: record.OutcomeOf(err)})
		}
		if n := logged.Numbers("").Requests; n.N != c.answered+c.spared+c.failed || c.answered != c.spared || n.Hits != c.failed {
			t.Errorf("%s: the log counts %+v, the meter %+v", name, n, *c)
		}
	}
}

// reasons notes why requests were counted.
type reasons []experiment.Reason

func (r *reasons) Answered(why experiment.Reason, _ time.Duration) { *r = append(*r, why) }
func (r *reasons) Spared(why experiment.Reason)                    { *r = append(*r, why) }
func (r *reasons) Failed(why experiment.Reason)                    { *r = append(*r, why) }

// Only a client's own online request is a unit: nodes of a graph share one, and bulk
// work has none.
func TestUnitsAreClientsRequests(t *testing.T) {
	for _, err := range []error{nil, fault.New(fault.Internal, "broken")} {
		var got reasons
		for _, c := range []*call{{}, {inner: true}, {request: Request{Class: batcher.Bulk}}} {
			meter(&route.Choice[*Version]{Reason: experiment.ByRequest, Split: &route.Split{Arms: []route.Arm{{Meter: &got}}}}, c, time.Now(), err)
		}
		if !slices.Equal(got, reasons{experiment.ByRequest, experiment.ByUnit, experiment.ByUnit}) {
			t.Errorf("%v: counted as %v", err, got)
		}
	}
}
