package target

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMetricsSum(t *testing.T) {
	m := Metrics("# HELP n x\nn{model=\"a\",version=\"1\"} 3\nn{model=\"b\",version=\"1\"} 1e+06\nnn 7\nn_total{model=\"a\"} 9\nplain 2.5\n")
	for _, tt := range []struct {
		name, label string
		want        float64
	}{{"n", "", 1000003}, {"n", `model="a"`, 3}, {"plain", "", 2.5}, {"n", `model="c"`, 0}, {"absent", "", 0}} {
		if got := m.Sum(tt.name, tt.label); got != tt.want {
			t.Errorf("%s{%s} is %v, want %v", tt.name, tt.label, got, tt.want)
		}
	}
}

func TestAProgramIsEndedAndSaysHow(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "trap 'exit 3' TERM; echo begun; while :; do sleep 0.01; done"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	awaitBegun(t, p)
	if err := p.Stop(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("it ended with %v", err)
	}
	if tail := p.Tail(); tail != "begun\nexit status 3" {
		t.Errorf("the log ends %q", tail)
	}
}

func awaitBegun(t *testing.T, p *Process) {
	t.Helper()
	begun := func(context.Context) error {
		if !strings.Contains(p.Tail(), "begun") {
			return errors.New("it has not begun")
		}
		return nil
	}
	if err := p.Await(t.Context(), 20*time.Second, begun); err != nil {
		t.Fatal(err)
	}
}

func TestWhatNeverBecomesReadyIsAnError(t *testing.T) {
	never := func(context.Context) error { return errors.New("no answer") }
	p, err := Start(exec.Command("sh", "-c", "exit 1"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), 20*time.Second, never); err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Errorf("a program that ended: %v", err)
	}
	p, err = Start(exec.Command("sleep", "60"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), 10*time.Millisecond, never); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that is never ready: %v", err)
	}
	if err := p.Stop(); err == nil {
		t.Error("a program that was ended by a signal says nothing of it")
	}
}

// A program that ignores SIGTERM, and what it has started, end by force.
func TestAGroupEndsWhole(t *testing.T) {
	p, err := Start(Group(exec.Command("sh", "-c", "trap '' TERM; echo begun; sleep 60 & sleep 60")), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	p.Whole(50 * time.Millisecond)
	awaitBegun(t, p)
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "did not end within 50ms") {
		t.Errorf("it ended with %v", err)
	}
}

func TestFreeAddrsDiffer(t *testing.T) {
	addrs, err := FreeAddrs(3)
	if err != nil || len(addrs) != 3 || addrs[0] == addrs[1] || addrs[1] == addrs[2] {
		t.Errorf("%v, %v", addrs, err)
	}
}
