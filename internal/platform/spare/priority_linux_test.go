package spare

import "golang.org/x/sys/unix"

// nice is the niceness of the calling thread.
func nice() int {
	n, _ := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	return 20 - n // as the system call has it
}
