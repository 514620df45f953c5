package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper sleeps until given times, to within some microseconds. One goroutine uses it.
//
// It waits for a timer of the kernel as for a connection. The Go scheduler's own timers are up
// to a millisecond late on an idle processor; and a goroutine that sleeps in a system
// call keeps its processor, with those that it has just woken in its queue, for up to
// 10 ms, until the runtime notices.
type sleeper struct {
	timer *os.File // nil where the kernel gives none
}

func newSleeper() *sleeper {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &sleeper{}
	}
	return &sleeper{os.NewFile(uintptr(fd), "timer")}
}

func (s *sleeper) until(t time.Time) {
	var expired [8]byte
	for left := time.Until(t); left > 0; left = time.Until(t) {
		if s.timer == nil || s.set(left) != nil {
			time.Sleep(left)
			continue
		}
		if _, err := s.timer.Read(expired[:]); err != nil {
			time.Sleep(time.Until(t))
		}
	}
}

// set has the timer expire once, after a while.
func (s *sleeper) set(d time.Duration) error {
	raw, err := s.timer.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		err = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if failed != nil {
		return failed
	}
	return err
}

func (s *sleeper) close() {
	if s.timer != nil {
		_ = s.timer.Close()
	}
}
