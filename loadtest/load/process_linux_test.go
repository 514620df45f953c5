package load

import (
	"os"
	"testing"
	"time"
)

func TestProcessCPUCountsAllThreads(t *testing.T) {
	pid := os.Getpid()
	before, err := ProcessCPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	const burn = 100 * time.Millisecond
	done := make(chan int)
	for range 2 {
		go func() {
			n := 0
			for start := time.Now(); time.Since(start) < burn; n++ {
			}
			done <- n
		}()
	}
	<-done
	<-done
	after, err := ProcessCPU(pid)
	if used := after - before; err != nil || used < burn/4 || used > 2*time.Second {
		t.Errorf("two goroutines that span for %s used %s of CPU time, %v", burn, used, err)
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
