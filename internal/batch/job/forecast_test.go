package job

import (
	"testing"
	"time"
)

// The forecast goes on: by the quote, and by what is seen as soon as rows are done.
func TestETA(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := Batch{MaxErrorRatio: 1, Deadline: now.Add(time.Minute), Quote: &Quote{Rows: 1000, Ahead: 500, Begin: time.Second, Row: 10e6, Slow: 20e6}}
	b.Accept(now, timing)
	if eta, slow := b.ETA(now); !eta.Equal(now.Add(16*time.Second)) || !slow.Equal(now.Add(31*time.Second)) || b.Late(now) {
		t.Errorf("%s, %s", eta, slow)
	}
	if err := b.Planned(b.Claim(now, timing), []Chunk{{Rows: 1000}, {Rows: 3000}}, now, timing); err != nil {
		t.Fatal(err)
	}
	if eta, _ := b.ETA(now); !eta.Equal(now.Add(46*time.Second)) || !b.Quote.Exact || b.Quote.Rows != 4000 {
		t.Errorf("%s, %+v", eta.Sub(now), b.Quote)
	}
	c := b.Claim(now, timing)
	now = now.Add(25 * time.Second)
	b.TakeEvents()
	if err := b.Computed(c, Outcome{Result: Object{Key: "a"}}, now, timing); err != nil {
		t.Fatal(err)
	}
	if eta, slow := b.ETA(now); !eta.Equal(now.Add(75*time.Second)) || !slow.Equal(now.Add(150*time.Second)) || !b.Late(now) {
		t.Errorf("%s, %s", eta.Sub(now), slow.Sub(now))
	}
	if e, ok := b.TakeEvents()[0].(Changed); !ok || e.EventType() != "batch.progress" || e.Rate != 40 || e.ETA != "2026-01-01T00:01:40.000Z" || !e.Late {
		t.Errorf("%+v", e)
	}
	if err := b.Pause(); err != nil {
		t.Fatal(err)
	}
	if eta, _ := b.ETA(now); !eta.IsZero() || b.Late(now) {
		t.Errorf("a paused batch ends at %s", eta)
	}
}
