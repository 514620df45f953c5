package spare

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nice is the niceness of the calling thread.
func nice() int {
	n, _ := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	return 20 - n // as the system call has it
}

// A thread of low priority has a longer time than others, where the system knows such times.
func TestLongTime(t *testing.T) {
	own := nice()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		common, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Log("no attributes here:", err)
			return
		}
		if err := lower(); err != nil {
			t.Log("no priorities here:", err)
			return
		}
		low, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if nice() != min(own+niceness, 19) || low.Runtime != 2*common.Runtime {
			t.Errorf("niceness %d, %v at a time; common threads %d, %v", nice(), time.Duration(low.Runtime), own, time.Duration(common.Runtime))
		}
		t.Logf("common threads have %v at a time, these %v", time.Duration(common.Runtime), time.Duration(low.Runtime))
	}()
	<-done
}
