package feed

import (
	"math"
	"testing"
)

// However much is granted, and how often, it is never taken for less.
func TestCreditDoesNotRunOver(t *testing.T) {
	c := &credit{on: true}
	for range 3 {
		c.grant(math.MaxInt64, math.MaxInt64)
		if !c.take(1 << 20) {
			t.Fatalf("nothing may be sent: %d messages, %d bytes", c.messages, c.bytes)
		}
	}
	c.grant(-1, -1)
	if c.messages != maxCredit-1 || c.bytes != maxCredit-1<<20 {
		t.Errorf("%d messages, %d bytes are left", c.messages, c.bytes)
	}
}
