package probe

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Limits of the sandboxed process: enough for any model that could be served,
// finite for one that was made to hurt.
const (
	cpuSeconds = 60 // for each processor
	openFiles  = 64
	leastSpace = 2 << 30 // bytes; see addressSpace
	mostSpace  = 64 << 30
)

// confine makes the child die with the server.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// limitSelf gives up what trying a model does not need: privileges through
// exec, CPU time, memory, files, writing, the network and other programs. On a
// GPU memory has no limit and sockets stay: drivers map far more than they use,
// and may talk to a service.
func limitSelf(x model.Execution) error {
	// Best effort: where memory runs out, this process is to go first.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)

	gpu := x.Provider != "" && !strings.EqualFold(x.Provider, "cpu")
	space := uint64(unix.RLIM_INFINITY)
	if !gpu {
		space = addressSpace()
	}
	for _, limit := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"CPU time", unix.RLIMIT_CPU, cpuSeconds * uint64(runtime.NumCPU())},
		{"address space", unix.RLIMIT_AS, space},
		{"open files", unix.RLIMIT_NOFILE, openFiles},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"core size", unix.RLIMIT_CORE, 0},
	} {
		var set unix.Rlimit
		err := unix.Getrlimit(limit.resource, &set)
		if err == nil {
			set.Max = min(set.Max, limit.value) // only a privileged process could raise it
			set.Cur = min(set.Cur, set.Max)
			err = unix.Setrlimit(limit.resource, &set)
		}
		if err != nil {
			return fault.Wrap(fault.Internal, err, "sandbox: cannot limit %s", limit.name)
		}
	}
	return filterCalls(gpu)
}

// addressSpace returns the bytes that this process may map: half of the memory
// that there is, at least leastSpace and at most mostSpace, on top of what it
// has mapped already, most of which is no memory.
func addressSpace() uint64 {
	statm, err := os.ReadFile("/proc/self/statm")
	pages, _, _ := bytes.Cut(statm, []byte(" "))
	mapped, err2 := strconv.ParseUint(string(pages), 10, 64)
	if err != nil || err2 != nil {
		return unix.RLIM_INFINITY
	}
	return mapped*uint64(os.Getpagesize()) + min(max(memory()/2, leastSpace), mostSpace)
}

// memory returns the smaller of the machine's and the container's memory in
// bytes, where the system tells.
func memory() uint64 {
	total := uint64(math.MaxUint64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = info.Totalram * uint64(info.Unit)
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64); err == nil {
			total = min(total, n)
		}
	}
	return total
}
