package models

import (
	"math"
	"testing"

	"sluice/internal/platform/config"
)

func TestShareOfMemory(t *testing.T) {
	for limit, want := range map[int64]config.Size{2 << 30: 512 << 20, 4 << 30: 1 << 30, 8 << 30: 2 << 30, math.MaxInt64: 2 << 30} {
		if got := share(limit); got != want {
			t.Errorf("of %d: %s, want %s", limit, got, want)
		}
	}
}
