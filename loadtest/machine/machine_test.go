package machine

import (
	"strings"
	"testing"
	"time"
)

func TestDescribeSaysWhatIsKnown(t *testing.T) {
	if s := Describe(); !strings.Contains(s, "cores") || !strings.Contains(s, "memory") {
		t.Errorf("%q", s)
	}
	if v := procField("/nowhere", "x", "unknown"); v != "unknown" {
		t.Errorf("%q of a file that is not there", v)
	}
}

// What this process and the programs that it names take is not others'.
func TestOwnTimeIsNotOthers(t *testing.T) {
	used := time.Duration(0)
	w := Watch(func() time.Duration { return used })
	w.begin, w.busy = w.begin.Add(-time.Hour), w.busy-time.Hour // an hour of which one core was busy
	before := w.Others()
	used = time.Hour
	after := w.Others()
	if before <= 0 || before > 1.01 || after >= before {
		t.Errorf("others took %v, and %v once the time was ours", before, after)
	}
}
