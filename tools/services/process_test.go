package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sleeper spawns a process that does nothing for a minute.
func sleeper(t *testing.T) (string, *process) {
	t.Helper()
	dir := t.TempDir()
	p, err := spawn(t.Context(), dir, []string{"sleep", "60"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(p.pid, syscall.SIGKILL) })
	return dir, p
}

func TestProcessIsFoundAgainAndEnded(t *testing.T) {
	dir, p := sleeper(t)
	found := running(dir)
	if found == nil || *found != *p {
		t.Fatalf("running found %v, started was %v", found, p)
	}
	if err := found.end(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if p.alive() || running(dir) != nil {
		t.Error("the process outlived its end")
	}
}

// A pid file that outlived its process names somebody else's sooner or later.
func TestAnotherProcessWithThePIDIsNotOurs(t *testing.T) {
	dir, p := sleeper(t)
	raw, err := os.ReadFile(pidFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(raw), p.began, "1"+p.began, 1)
	if err := os.WriteFile(pidFile(dir), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	if found := running(dir); found != nil {
		t.Errorf("took process %d, which began at another time, for its own", found.pid)
	}
}

func TestPausedProcessIsSeenAndEnded(t *testing.T) {
	dir, p := sleeper(t)
	if p.paused() {
		t.Fatal("paused before anybody paused it")
	}
	if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.until(t.Context(), p.paused); err != nil {
		t.Fatal(err)
	}
	if running(dir) == nil {
		t.Error("a paused process counts as stopped")
	}
	if err := p.end(t.Context(), syscall.SIGTERM); err != nil || p.alive() {
		t.Errorf("a paused process does not end: %v", err)
	}
}

// Where nobody collects orphans, a process that ended stays in the list.
func TestZombieIsDead(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{pid: cmd.Process.Pid}
	_, p.began, _ = inspect(p.pid)
	if !p.alive() {
		t.Fatal("a running process counts as dead")
	}
	if err := p.end(t.Context(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

func TestBothWaysToInspectAgree(t *testing.T) {
	_, p := sleeper(t)
	state, began, err := inspectByPS(p.pid)
	if err != nil || state != "S" || began == "" {
		t.Errorf("ps says %q, %q, %v of a sleeping process", state, began, err)
	}
	_, again, _ := inspectByPS(p.pid)
	if again != began {
		t.Errorf("ps says first %q and then %q", began, again)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte("one\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := tail(dir, 2), "    two\n    three"; got != want {
		t.Errorf("tail = %q, expected %q", got, want)
	}
}
