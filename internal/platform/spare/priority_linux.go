package spare

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// niceness is how much lower the priority is, see nice(2): the thread gets a tenth of what a common
// one gets beside it. At a lower one it would wait too long while it holds a lock of Go's runtime.
const niceness = 10

// lower lowers the priority of the calling thread, to which its goroutine must be locked.
func lower() error {
	now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 20-now+niceness); err != nil { // the system call returns 20 less the niceness
		return err
	}
	_ = lengthen() // which older kernels than Linux 6.12, and some sandboxes, do not know
	return nil
}

// lengthen has the calling thread ask for the processor for twice as long at a time as common ones, see
// sched_setattr(2). A thread that wakes takes the processor at once from one that asks for more time than
// itself, and may have to wait for one that asks for as much.
func lengthen() error {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL && a.Policy != unix.SCHED_BATCH {
		return err
	}
	a.Runtime *= 2 // 0 where the kernel does not tell it
	return unix.SchedSetAttr(0, a, 0)
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
