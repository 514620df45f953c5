package main

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

// printMachine names what the figures were measured on.
func (b *bench) printMachine() {
	mode := "full run"
	if b.short {
		mode = "short run: figures are rough"
	}
	b.report.line("%s", mode)
	b.report.line("machine  %s, %d cores, %s memory, %s/%s", cpuModel(), runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH)
	b.report.line("runtime  %s, %s", runtime.Version(), b.engine.Version())
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

// witness watches whether the machine was ours alone: what others take of the
// cores disturbs every figure on the clock and, through the caches, every other.
type witness struct {
	begin      time.Time
	busy, ours time.Duration
}

func (b *bench) witness() witness {
	return witness{begin: time.Now(), busy: machineBusy(), ours: b.ownCPU()}
}

// verdict says what share of the cores' time other processes and the
// hypervisor took since.
func (b *bench) verdict(w witness) string {
	others := machineBusy() - w.busy - (b.ownCPU() - w.ours)
	capacity := time.Since(w.begin) * time.Duration(runtime.NumCPU())
	return fmt.Sprintf("others took %.0f%% of the cores", 100*max(0, float64(others)/float64(capacity)))
}

// ownCPU returns the CPU time of this process, of the server that runs, and of
// those that have ended.
func (b *bench) ownCPU() time.Duration {
	total, err := load.ProcessCPU(os.Getpid())
	if err != nil {
		return 0
	}
	var ended syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &ended); err == nil {
		total += time.Duration(ended.Utime.Nano() + ended.Stime.Nano())
	}
	if b.server != nil {
		if cpu, err := b.server.cpu(); err == nil {
			total += cpu
		}
	}
	return total
}

// machineBusy returns the time that all cores together were not idle, in the
// hundredths of a second in which the kernel reports it; 0 where it does not.
func machineBusy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	busy := 0
	for i, f := range strings.Fields(strings.TrimPrefix(first, "cpu")) {
		if n, err := strconv.Atoi(f); err == nil && i != 3 && i != 4 && i < 8 { // idle, iowait; guests are in user
			busy += n
		}
	}
	return time.Duration(busy) * 10 * time.Millisecond
}
