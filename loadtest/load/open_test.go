package load

import (
	"testing"
	"time"
)

// What the generator is late by is its own: in noticing, and in handing over to a connection that is free.
func TestLagIsTheGeneratorsOwn(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		about                     string
		noticed, free, taken, lag int
	}{
		{"at once", 0, -50, 0, 0},
		{"noticed late", 7, -50, 7, 7},
		{"handed over late", 1, -50, 9, 9},
		{"no connection for long", 0, 500, 500, 0},
		{"noticed late, then no connection for long", 7, 500, 501, 8},
	} {
		a := arrival{due: at(0), noticed: at(tt.noticed)}
		if got := a.lag(at(tt.free), at(tt.taken)); got != time.Duration(tt.lag)*time.Millisecond {
			t.Errorf("%s: %s, want %d ms", tt.about, got, tt.lag)
		}
	}
}
