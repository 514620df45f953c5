package record

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestIDsAreUUIDv7(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(rapid.Int64Range(0, 1<<48-1).Draw(t, "ms"))
		id := NewID(now)
		u, err := uuid.Parse(strings.TrimPrefix(id.String(), "pred_"))
		if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
			t.Fatalf("%s is no UUID of version 7: %v", id, err)
		}
		if at, ok := id.Time(); !ok || !at.Equal(now) {
			t.Fatalf("%s tells %s, %t", id, at, ok)
		}
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Fatalf("%s was read as %s, %v", id, back, err)
		}
	})
	seen := map[ID]bool{}
	for range 10_000 {
		seen[NewID(time.UnixMilli(1))] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("10,000 ids of one millisecond are %d different ones", len(seen))
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, text := range []string{"", "pred_", "pred_x", "job_01900000000070008000000000000000", "pred_01900000-0000-7000-8000-000000000000", "pred_0190000000007000800000000000000g", strings.Repeat("pred_", 1000)} {
		if _, err := ParseID(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.50q: %v", text, err)
		}
	}
	if _, ok := (ID{}).Time(); ok {
		t.Error("no id tells a time")
	}
}
