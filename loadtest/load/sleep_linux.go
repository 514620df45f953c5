package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps in the kernel: the Go scheduler's own timers are up to a
// millisecond late on an idle processor.
func sleepUntil(t time.Time) {
	for left := time.Until(t); left > 0; left = time.Until(t) {
		ts := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&ts, nil) // a signal ends it early; the loop goes on
	}
}
