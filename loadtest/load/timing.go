package load

import (
	"bytes"
	"strconv"
	"time"
)

// Timing is what a server says of an answer in Server-Timing (W3C): how long the request
// queued, and how long all took from its head on. Zero where it says nothing. What a
// request takes beyond that is the network's, the kernel's and the generator's.
type Timing struct{ Queue, Total time.Duration }

// parseTiming reads "queue;dur=1.5, total;dur=2" and leaves out what it does not know.
func parseTiming(value []byte) (t Timing) {
	for len(value) > 0 {
		var metric []byte
		metric, value, _ = bytes.Cut(value, []byte(","))
		name, millis, ok := bytes.Cut(bytes.TrimSpace(metric), []byte(";dur="))
		ms, err := strconv.ParseFloat(string(millis), 64)
		if !ok || err != nil || !(ms >= 0) || ms > 1e9 {
			continue
		}
		switch took := time.Duration(ms * float64(time.Millisecond)); string(name) {
		case "queue":
			t.Queue = took
		case "total":
			t.Total = took
		}
	}
	return t
}
