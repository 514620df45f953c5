package spare

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// niceness is how much lower the priority is, see nice(2): the thread gets a tenth of what a common
// one gets beside it. With less it would wait for too long where it holds a lock of Go's runtime.
const niceness = 10

// lower lowers the priority of the calling thread, to which its goroutine must be locked.
func lower() error {
	now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 20-now+niceness) // the system call returns 20 less the niceness
}

// priorities says whether a thread can have a priority of its own.
func priorities() bool {
	can := make(chan bool)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		can <- lower() == nil
	}()
	return <-can
}
