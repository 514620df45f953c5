package node

import (
	"testing"
	"time"

	"sluice/internal/platform/config"
)

// What is published again is more than the queue can lose, and no more than its window of
// duplicates recognises.
func TestAgain(t *testing.T) {
	for _, tt := range []struct {
		url  []string
		sync time.Duration
		want time.Duration
	}{
		{nil, 0, time.Minute},
		{nil, 10 * time.Second, time.Minute},
		{nil, 2 * time.Minute, 6 * time.Minute},
		{nil, 10 * time.Minute, Retain},
		{[]string{"nats://127.0.0.1:4222"}, 10 * time.Second, 5 * time.Minute},
	} {
		n := &Node{cfg: config.Config{NATS: config.NATS{URL: tt.url, Sync: tt.sync}}}
		if got := n.again(); got != tt.want {
			t.Errorf("%v, synced each %s: %s, want %s", tt.url, tt.sync, got, tt.want)
		}
	}
}
