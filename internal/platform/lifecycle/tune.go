package lifecycle

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
)

// Tune sets the garbage collector's growth target (percent), the most garbage that
// this may leave where more lives (bytes, see allowance), and the soft memory limit
// (bytes; 0 means half of what the machine or container has). The standard variables
// GOGC and GOMEMLIMIT win where the user set them.
func Tune(gogc int, maxGarbage, memoryLimit int64) {
	if os.Getenv("GOGC") == "" { //nolint:forbidigo // the Go runtime's variable, no setting of ours
		debug.SetGCPercent(gogc)
		if maxGarbage > 0 {
			a := &allowance{gogc: gogc, garbage: uint64(maxGarbage), set: gogc}
			afterCollections(a.adapt)
		}
	}
	if os.Getenv("GOMEMLIMIT") != "" { //nolint:forbidigo // the Go runtime's variable, no setting of ours
		return
	}
	if memoryLimit == 0 {
		memoryLimit = availableMemory() / 2
	}
	debug.SetMemoryLimit(memoryLimit)
}

// Settle gives back what the start took and nothing needs any more: the collector
// would let it grow to several times what lives (Tune), and then keep it.
func Settle() { debug.FreeOSMemory() }

// availableMemory is the smaller of the machine's and the container's memory
// in bytes, where the system tells, and otherwise without bound.
func availableMemory() int64 {
	memory := int64(math.MaxInt64)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		memory = min(memory, memTotal(data))
	}
	if data, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		memory = min(memory, cgroupMax(data))
	}
	return memory
}

// memTotal reads "MemTotal:  16384 kB".
func memTotal(meminfo []byte) int64 {
	for line := range bytes.Lines(meminfo) {
		f := bytes.Fields(line)
		if len(f) == 3 && string(f[0]) == "MemTotal:" {
			if n, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil && n > 0 && n < math.MaxInt64>>10 {
				return n << 10
			}
		}
	}
	return math.MaxInt64
}

// cgroupMax reads "max" or a number of bytes.
func cgroupMax(data []byte) int64 {
	if n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil && n > 0 {
		return n
	}
	return math.MaxInt64
}
