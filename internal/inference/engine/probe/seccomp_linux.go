package probe

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/internal/platform/fault"
)

// forbidden are the system calls that start programs or reach into other
// processes; io_uring is a way around any such list.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_KILL, unix.SYS_IO_URING_SETUP,
}

// auditArchs names the architectures for which there is a filter.
var auditArchs = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// x32 is the first call of amd64's second table of calls.
const x32 = 1 << 30

// filterCalls makes the forbidden calls fail with EPERM, and new sockets unless
// they are wanted, in all threads for good. With it go the privileges that
// exec could gain. Kernels without filters are let off.
func filterCalls(sockets bool) error {
	runtime.LockOSThread() // no_new_privs belongs to a thread, and the filter hands it on
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fault.Wrap(fault.Internal, err, "sandbox: cannot give up privileges")
	}
	arch, ok := auditArchs[runtime.GOARCH]
	if !ok {
		return nil
	}
	filter := program(arch, sockets)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	switch {
	case errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL):
		return nil
	case errno != 0:
		return fault.Wrap(fault.Internal, errno, "sandbox: cannot filter system calls")
	case thread != 0:
		return fault.New(fault.Internal, "sandbox: thread %d has a filter of system calls of its own", thread)
	}
	return nil
}

// program returns the filter, over struct seccomp_data: the call's number is
// at 0, its architecture at 4.
func program(arch uint32, sockets bool) []unix.SockFilter {
	calls := forbidden
	if !sockets {
		calls = append([]uint32{unix.SYS_SOCKET}, calls...)
	}
	const load, equal, atLeast, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	refuse := uint8(len(calls)) + 3 // where the refusal is, from the second instruction on
	p := []unix.SockFilter{
		{Code: load, K: 4},
		{Code: equal, K: arch, Jf: refuse},
		{Code: load, K: 0},
		{Code: atLeast, K: x32, Jt: refuse - 2},
	}
	for i, call := range calls {
		p = append(p, unix.SockFilter{Code: equal, K: call, Jt: refuse - 3 - uint8(i)})
	}
	return append(p, unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
}
