package sqlitefeature

import (
	"os"

	"golang.org/x/sys/unix"
)

// The locks are those of open files, not of processes: fcntl(2), "Open file description
// locks". To ask for one does not keep anybody from taking it.

func lock(f *os.File) error   { return set(f, unix.F_OFD_SETLKW, unix.F_WRLCK) }
func unlock(f *os.File) error { return set(f, unix.F_OFD_SETLK, unix.F_UNLCK) }

func set(f *os.File, command int, how int16) error {
	for {
		l := unix.Flock_t{Type: how, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), command, &l); err != unix.EINTR {
			return err
		}
	}
}

// locked says whether another open file has the lock.
func locked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l)
	return l.Type != unix.F_UNLCK, err
}
