package load

import (
	"testing"
	"time"
)

func TestParseTiming(t *testing.T) {
	const ms = time.Millisecond
	for text, want := range map[string]Timing{
		"decode;dur=0.010, queue;dur=1.500, infer;dur=5.250, encode;dur=0.001, total;dur=7": {1500 * time.Microsecond, 7 * ms},
		"total;dur=3,queue;dur=2": {2 * ms, 3 * ms},
		"":                        {},
		"total":                   {},
		"total;dur=x, queue;dur=": {},
		"total;dur=-1":            {},
		"total;dur=NaN":           {},
		"total;dur=1e300":         {},
		`cache;desc="hit, total"`: {},
	} {
		if got := parseTiming([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
