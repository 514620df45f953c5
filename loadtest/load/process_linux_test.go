package load

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The clock must agree with what the kernel accounts to the whole process.
func TestProcessCPUCountsAllThreads(t *testing.T) {
	pid := os.Getpid()
	before, err := ProcessCPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	start := usage(t)
	const burn = 60 * time.Millisecond
	done := make(chan int)
	for range 2 {
		go func() {
			n := 0
			for ; usage(t)-start < burn; n++ {
			}
			done <- n
		}()
	}
	<-done
	<-done
	end := usage(t)
	after, err := ProcessCPU(pid)
	if used := after - before; err != nil || used < burn/2 || used < (end-start)/2 || used > 2*(end-start) {
		t.Errorf("the clock says %s, the kernel's accounts say %s, %v", used, end-start, err)
	}
	if rss, err := ProcessRSS(pid); err != nil || rss < 1<<20 || rss > 1<<33 {
		t.Errorf("resident memory %d bytes, %v", rss, err)
	}
	const nobody = 1 << 22 // beyond the largest process id
	if _, err := ProcessCPU(nobody); err == nil {
		t.Error("CPU time of a process that does not exist")
	}
	if _, err := ProcessRSS(nobody); err == nil {
		t.Error("memory of a process that does not exist")
	}
}

func usage(t *testing.T) time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Error(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
