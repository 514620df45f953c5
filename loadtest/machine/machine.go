// Package machine says what figures were measured on, and whether it was ours
// alone meanwhile.
package machine

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/load"
)

// Describe names the processor, its cores and the memory.
func Describe() string {
	return fmt.Sprintf("%s, %d cores, %s memory, %s/%s", cpuModel(), runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH)
}

func cpuModel() string { return procField("/proc/cpuinfo", "model name", "unknown CPU") }

func memory() string { return procField("/proc/meminfo", "MemTotal", "unknown") }

// procField returns the first value of a "name: value" line.
func procField(path, name, unknown string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return unknown
}

// Witness watches whether the machine was ours alone: what others take of the
// cores disturbs every figure on the clock and, through the caches, every other.
type Witness struct {
	begin      time.Time
	busy, ours time.Duration
	own        func() time.Duration
}

// Watch begins to watch. Own returns the CPU time of the programs that are
// measured and still run; that of this process and of those that have ended is
// counted without it. It may be nil.
func Watch(own func() time.Duration) Witness {
	w := Witness{begin: time.Now(), busy: busy(), own: own}
	w.ours = w.used()
	return w
}

// Others returns the share of the cores' time, from 0 to 1, that other processes
// and the hypervisor took since.
func (w Witness) Others() float64 {
	others := busy() - w.busy - (w.used() - w.ours)
	capacity := time.Since(w.begin) * time.Duration(runtime.NumCPU())
	return max(0, float64(others)/float64(capacity))
}

func (w Witness) used() time.Duration {
	total, err := load.ProcessCPU(os.Getpid())
	if err != nil {
		return 0
	}
	var ended syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &ended); err == nil {
		total += time.Duration(ended.Utime.Nano() + ended.Stime.Nano())
	}
	if w.own != nil {
		total += w.own()
	}
	return total
}

// busy returns the time that all cores together were not idle, in the
// hundredths of a second in which the kernel reports it; 0 where it does not.
func busy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	total := 0
	for i, f := range strings.Fields(strings.TrimPrefix(first, "cpu")) {
		if n, err := strconv.Atoi(f); err == nil && i != 3 && i != 4 && i < 8 { // idle, iowait; guests are in user
			total += n
		}
	}
	return time.Duration(total) * 10 * time.Millisecond
}
