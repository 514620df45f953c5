package stream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// keptLog is a prediction log in memory.
type keptLog struct {
	mu      sync.Mutex
	entries []record.Entry
}

func (*keptLog) Entry() *record.Entry { return new(record.Entry) }

func (l *keptLog) Record(e *record.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, *e)
}

// A generation is one entry of the log, however it ends: with the number of its answers,
// all of which tell its id, and the time of all of them. What is wrong with the request is
// an entry as it is of any other.
func TestGenerationsAreOneEntry(t *testing.T) {
	log := new(keptLog)
	b := newBedOf(t, Config{}, streamtest.Recorded(t, log))
	for name, c := range map[string]struct {
		x       int64
		limit   int
		end     func(leave func()) error // after the second step
		outcome record.Outcome
		steps   int
	}{
		"whole":       {x: 1, limit: 5, outcome: record.Succeeded, steps: 5},
		"single":      {x: 1, limit: 1, outcome: record.Succeeded, steps: 1},
		"left":        {x: 1, limit: 5, end: func(leave func()) error { leave(); return nil }, outcome: record.Cancelled, steps: 2},
		"broken":      {x: 1, limit: 5, end: func(func()) error { return fault.New(fault.Internal, "broken") }, outcome: record.Failed, steps: 1},
		"not a start": {x: 1000, limit: 5, outcome: record.Failed, steps: 0},
	} {
		t.Run(name, func(t *testing.T) {
			log.entries = nil
			ctx, leave := context.WithCancel(access.With(t.Context(), &access.Principal{Tenant: "acme"}))
			defer leave()
			ids := map[record.ID]bool{}
			codec := &telling{call: call{model: "write", x: c.x, outputs: []string{"y"}, steps: c.limit, on: func(s serve.Step) error {
				time.Sleep(time.Millisecond) // that each step takes some time
				if s.Number == 2 && c.end != nil {
					return c.end(leave)
				}
				return nil
			}}, ids: ids}
			err := b.Generate(ctx, codec, nil)
			if (err == nil) != (c.outcome == record.Succeeded) {
				t.Fatal(err)
			}
			if len(log.entries) != 1 {
				t.Fatalf("%d entries, want 1: %+v", len(log.entries), log.entries)
			}
			e := log.entries[0]
			if e.Outcome != c.outcome || e.Steps != c.steps || e.Rows != 1 || e.Model != "write" || e.Tenant != "acme" || e.Code != fault.CodeOf(err) {
				t.Errorf("%+v, %v", e, err)
			}
			if l := e.Latency; c.steps > 0 && (l.Infer <= 0 || l.Encode < time.Duration(c.steps)*time.Millisecond || l.Total < l.Decode+l.Queue+l.Infer+l.Encode) {
				t.Errorf("%+v", l)
			}
			if len(codec.y) > 0 && (len(ids) != 1 || !ids[e.ID]) {
				t.Errorf("the answers tell %v, the log %s", ids, e.ID)
			}
		})
	}
	log.entries = nil
	if err := b.Generate(as(t.Context(), "t"), &call{model: "write", x: 1, rows: 2}, nil); err == nil || len(log.entries) != 1 || log.entries[0].Outcome != record.Invalid || log.entries[0].Steps != 0 {
		t.Errorf("%v: %s", err, fmt.Sprint(log.entries))
	}
}

// telling notes the ids that answers tell.
type telling struct {
	call
	ids map[record.ID]bool
}

func (c *telling) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	c.ids[resp.Prediction] = true
	return c.call.Encode(ctx, v, resp)
}
