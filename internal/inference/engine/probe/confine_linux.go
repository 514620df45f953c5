package probe

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/internal/platform/fault"
)

// Limits of the sandboxed process: enough for any model that could be served,
// finite for one that was made to hurt.
const (
	cpuSeconds   = 60
	addressSpace = 64 << 30
	openFiles    = 64
)

// confine makes the child die with the server.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// limitSelf gives up what trying a model does not need: privileges through
// exec, CPU time, memory, files and writing.
func limitSelf() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fault.Wrap(fault.Internal, err, "sandbox: cannot give up privileges")
	}
	for _, limit := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"CPU time", unix.RLIMIT_CPU, cpuSeconds},
		{"address space", unix.RLIMIT_AS, addressSpace},
		{"open files", unix.RLIMIT_NOFILE, openFiles},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"core size", unix.RLIMIT_CORE, 0},
	} {
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: limit.value, Max: limit.value}); err != nil {
			return fault.Wrap(fault.Internal, err, "sandbox: cannot limit %s", limit.name)
		}
	}
	return nil
}
