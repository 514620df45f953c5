package sqlitefeature

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The locks are those of open files, not of processes: fcntl(2), "Open file description
// locks". To ask for one does not keep anybody from taking it.

// lock takes the lock, and says whether no other open file has it.
func lock(f *os.File) (bool, error) {
	err := ask(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

func unlock(f *os.File) error {
	return ask(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Len: 1})
}

// locked says whether another open file has the lock.
func locked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	err := ask(f, unix.F_OFD_GETLK, &l)
	return l.Type != unix.F_UNLCK, err
}

// ask fails with os.ErrClosed behind Close, which waits for it.
func ask(f *os.File, command int, l *unix.Flock_t) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = unix.FcntlFlock(fd, command, l) }); err != nil {
		return errors.Join(os.ErrClosed, err) // it fails in no other way
	}
	return failed
}
