package feed

import (
	"encoding/json"
	"testing"
)

// A ring that may have missed what was behind 10, up to 20: told are those who
// took some of that from it, and only of what they may lack.
func TestWhoIsToldOfALoss(t *testing.T) {
	for _, c := range []struct {
		name      string
		sure, pos uint64
		losses    int
		want      string // the gap, if any
		at        uint64
	}{
		{name: "behind all of it", pos: 5, at: 5},
		{name: "caught up past it from the source", sure: 20, pos: 25, at: 25},
		{name: "inside, from the source", sure: 15, pos: 15, at: 15},
		{name: "inside, from the ring", sure: 12, pos: 15, want: "e1-12 to e1-20", at: 20},
		{name: "past it, by the ring alone", pos: 25, want: "e1-10 to e1-25", at: 25},
		{name: "two losses slept through", pos: 25, losses: 1, want: "e1-10 to e1-30", at: 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := NewHub(newMemory(), Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			r := &ring{maxEvents: 100, maxBytes: 1 << 20, onBytes: func(int) {}, epoch: "e1"}
			for seq := range uint64(30) {
				r.append(&Event{Cursor: Cursor{"e1", seq + 1}, Type: "x"})
			}
			for range c.losses + 1 {
				r.lose(10, 20)
			}
			if len(r.entries) != 10 || r.floor != 20 || r.read != 30 {
				t.Fatalf("the ring has %d events behind %d, to %d", len(r.entries), r.floor, r.read)
			}
			s := &Subscription{hub: h, ring: r, epoch: "e1", sure: c.sure, pos: c.pos}
			s.regenerate()
			got := ""
			if len(s.queue) > 0 {
				var g Gap
				if err := json.Unmarshal(s.queue[0].Data, &g); err != nil || g.Reason != ReasonExpired {
					t.Fatalf("%s: %v", s.queue[0].Data, err)
				}
				got = g.From + " to " + g.To
			}
			if got != c.want || s.pos != c.at || s.generation != r.generation {
				t.Errorf("told of %q and goes on at %d, want %q and %d", got, s.pos, c.want, c.at)
			}
		})
	}
}
