package probe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/platform/fault"
)

// The hard limits of a child that starts with some already.
var tight = map[int]uint64{unix.RLIMIT_CPU: 30, unix.RLIMIT_NOFILE: 40}

// confinedChild is a sandboxed child whose models try to get out.
func confinedChild(limited bool) {
	if limited {
		for resource, value := range tight {
			if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	// A thread that was there before the limits has them, too.
	call := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range call {
			f()
		}
	}()
	_ = probe.Child(context.Background(), os.Stdin, os.Stdout, func() (engine.Engine, error) { return prisoner{call, limited}, nil })
}

// prisoner is an engine whose models report what they get away with.
type prisoner struct {
	elsewhere chan func()
	limited   bool
}

func (prisoner) Version() string { return "prisoner" }

func (p prisoner) Open(context.Context, engine.Spec) (engine.Session, error) {
	var escapes []string
	done := make(chan struct{})
	p.elsewhere <- func() {
		escapes = append(escapes, p.escapes()...)
		close(done)
	}
	<-done
	return nil, fault.New(fault.Invalid, "escapes: %s", strings.Join(append(escapes, p.escapes()...), "; "))
}

func (p prisoner) escapes() (found []string) {
	try := func(what string, err error) {
		if err == nil {
			found = append(found, what)
		}
	}
	f, err := os.CreateTemp("", "escaped")
	if err == nil {
		_, err = f.WriteString("data")
		_ = os.Remove(f.Name())
	}
	try("writes a file", err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	_ = unix.Close(fd)
	try("opens a socket", err)
	try("runs a program", exec.Command("/bin/true").Run())
	try("signals its parent", unix.Kill(os.Getppid(), 0))
	for resource, value := range tight {
		var set unix.Rlimit
		if err := unix.Getrlimit(resource, &set); p.limited && err == nil && set.Max > value {
			found = append(found, fmt.Sprintf("raises limit %d to %d", resource, set.Max))
		}
	}
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info)
	size := min(info.Totalram*uint64(info.Unit)/2+1<<30, 65<<30)
	mapping, err := unix.Mmap(-1, 0, int(max(size, 3<<30)), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	_ = unix.Munmap(mapping)
	try(fmt.Sprintf("maps %d MiB", size>>20), err)
	if score, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil && string(bytes.TrimSpace(score)) != "1000" {
		found = append(found, "has the OOM score "+string(score))
	}
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, thread := range threads {
		if status, err := os.ReadFile(thread); err == nil && !bytes.Contains(status, []byte("NoNewPrivs:\t1")) {
			found = append(found, "keeps privileges in "+thread)
		}
	}
	return found
}

func TestSandboxConfines(t *testing.T) {
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	for _, mode := range []string{"confined", "limited"} {
		_, err := sandbox(t, mode).Try(context.Background(), spec)
		var f *fault.Error
		if !errors.As(err, &f) || f.Message != "escapes: " {
			t.Errorf("%s: %v", mode, err)
		}
	}
}
