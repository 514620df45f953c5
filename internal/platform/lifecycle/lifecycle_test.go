package lifecycle

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if os.Getenv("LIFECYCLE_TEST_CHILD") != "" {
		stubborn()
	}
	goleak.VerifyTestMain(m)
}

// journal is what happened, in order, with the time since it began.
type journal struct {
	began time.Time
	mu    sync.Mutex
	lines []string
}

func newJournal() *journal { return &journal{began: time.Now()} }

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) at() time.Duration { return time.Since(j.began) }

// component writes down every step. Its Run ends with its context.
func (j *journal) component(name string) Component {
	step := func(s string) func(context.Context) error {
		return func(context.Context) error { j.add(s + " " + name); return nil }
	}
	return Component{Name: name, Start: step("start"), Drain: step("drain"), Stop: step("stop"),
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			j.add("cancelled " + name)
			return ctx.Err()
		}}
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := Run(ctx, Config{Notice: 2 * time.Second, Grace: time.Second,
			Started:  func() { j.add("started") },
			Draining: func() { j.add("draining") },
		}, j.component("store"), j.component("server"))
		if err != nil {
			t.Fatal(err)
		}
		// The two drain at the same time, in either order.
		i := slices.Index(j.lines, "draining")
		slices.Sort(j.lines[i+1 : i+3])
		want := []string{"start store", "start server", "started", "draining", "drain server", "drain store",
			"cancelled server", "stop server", "cancelled store", "stop store"}
		if d := cmp.Diff(want, j.lines); d != "" {
			t.Error(d)
		}
		if j.at() != time.Minute+2*time.Second {
			t.Errorf("took %s, want the minute and the notice", j.at())
		}
	})
}

// A slow request uses the grace period, another component's drain does not
// wait for it, and its run is cancelled only then.
func TestGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		// The clock moves only once everything has started and waits.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow, quick := j.component("slow"), j.component("quick")
		var drained, cancelled time.Duration
		slow.Drain = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		slow.Run = func(ctx context.Context) error { <-ctx.Done(); cancelled = j.at(); return nil }
		quick.Drain = func(context.Context) error { drained = j.at(); return nil }
		err := Run(ctx, Config{Grace: 30 * time.Second}, quick, slow)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "slow: drain") {
			t.Errorf("error is %v", err)
		}
		if drained != time.Second || cancelled != 31*time.Second {
			t.Errorf("drained after %s, cancelled after %s", drained, cancelled)
		}
	})
}

func TestRunThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stuck := j.component("stuck")
		release := make(chan struct{})
		stuck.Run = func(context.Context) error { <-release; return nil }
		err := Run(ctx, Config{}, j.component("below"), stuck)
		close(release)
		if err == nil || !strings.Contains(err.Error(), "stuck: stop: still running 5s") {
			t.Errorf("error is %v", err)
		}
		if slices.Contains(j.lines, "stop stuck") || !slices.Contains(j.lines, "stop below") {
			t.Errorf("journal is %v", j.lines)
		}
	})
}

func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		break_ func(*Component)
		want   []string // of the components "a", broken "b", "c"
	}{
		"start fails": {
			func(c *Component) { c.Start = func(context.Context) error { return boom } },
			[]string{"start a", "drain a", "cancelled a", "stop a"},
		},
		"run fails while c starts": {
			func(c *Component) {
				// c starts for a second; the clock moves once it does.
				c.Run = func(context.Context) error { time.Sleep(time.Millisecond); return boom }
			},
			[]string{"start a", "start b", "gave up c", "drain a", "drain b", "stop b", "cancelled a", "stop a"},
		},
		"run fails later": {
			func(c *Component) {
				c.Run = func(context.Context) error { time.Sleep(time.Hour); return boom }
			},
			[]string{"start a", "start b", "start c", "drain a", "drain b", "drain c", "cancelled c", "stop c", "stop b", "cancelled a", "stop a"},
		},
		"stop fails": {
			func(c *Component) {
				c.Run = func(ctx context.Context) error { time.Sleep(time.Hour); return boom }
				c.Stop = func(context.Context) error { return errors.New("bang") }
			},
			[]string{"start a", "start b", "start c", "drain a", "drain b", "drain c", "cancelled c", "stop c", "cancelled a", "stop a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJournal()
				b, c := j.component("b"), j.component("c")
				tc.break_(&b)
				c.Start = func(ctx context.Context) error {
					select {
					case <-time.After(time.Second):
						j.add("start c")
						return nil
					case <-ctx.Done():
						j.add("gave up c")
						return ctx.Err()
					}
				}
				err := Run(t.Context(), Config{Grace: time.Second}, j.component("a"), b, c)
				if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "b: ") {
					t.Errorf("error is %v", err)
				}
				if i := slices.IndexFunc(j.lines, func(s string) bool { return strings.HasPrefix(s, "drain") }); i >= 0 {
					n := i
					for n < len(j.lines) && strings.HasPrefix(j.lines[n], "drain") {
						n++
					}
					slices.Sort(j.lines[i:n])
				}
				if d := cmp.Diff(tc.want, j.lines); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// A signal while something starts is no failure, and only what started stops.
func TestCancelledWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow := j.component("slow")
		slow.Start = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		if err := Run(ctx, Config{Notice: time.Hour}, j.component("a"), slow, j.component("never")); err != nil {
			t.Error(err)
		}
		want := []string{"start a", "drain a", "cancelled a", "stop a"}
		if d := cmp.Diff(want, j.lines); d != "" || j.at() != time.Second {
			t.Errorf("after %s: %s", j.at(), d)
		}
	})
}

// Whatever fails, every component that started stops exactly once, in reverse.
func TestStopsExactlyWhatStarted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(rt, "components")
		fails := rapid.IntRange(-1, n-1).Draw(rt, "fails")
		step := rapid.SampledFrom([]string{"start", "run", "drain", "stop"}).Draw(rt, "step")
		synctest.Test(t, func(t *testing.T) {
			j := newJournal()
			var all []Component
			for i := range n {
				c := j.component(string(rune('a' + i)))
				if i == fails {
					bad := func(context.Context) error { return errors.New("boom") }
					switch step {
					case "start":
						c.Start = bad
					case "run":
						c.Run = bad
					case "drain":
						c.Drain = bad
					case "stop":
						stop := c.Stop
						c.Stop = func(ctx context.Context) error { return errors.Join(stop(ctx), errors.New("boom")) }
					}
				}
				all = append(all, c)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := Run(ctx, Config{}, all...); (err != nil) != (fails >= 0) {
				t.Errorf("error is %v", err)
			}
			var started, stopped []string
			for _, line := range j.lines {
				if name, ok := strings.CutPrefix(line, "start "); ok {
					started = append(started, name)
				}
				if name, ok := strings.CutPrefix(line, "stop "); ok {
					stopped = append(stopped, name)
				}
			}
			slices.Reverse(stopped)
			if d := cmp.Diff(started, stopped); d != "" {
				t.Error(d)
			}
		})
	})
}

// stubborn is a program that never finishes its shutdown.
func stubborn() {
	ctx, stop := Signals(context.Background())
	defer stop()
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	os.Stdout.WriteString("draining\n")
	select {}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LIFECYCLE_TEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	buf := make([]byte, 64)
	for _, want := range []string{"ready\n", "draining\n"} {
		n, err := out.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v, want %q", buf[:n], err, want)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want death by SIGTERM", err)
	}
}

func TestMemory(t *testing.T) {
	if got := memTotal([]byte("Foo: 1 kB\nMemTotal:       16384 kB\nMemFree: 2 kB\n")); got != 16384<<10 {
		t.Errorf("memTotal = %d", got)
	}
	for text, want := range map[string]int64{"max\n": math.MaxInt64, "1048576\n": 1 << 20, "": math.MaxInt64, "-1": math.MaxInt64} {
		if got := cgroupMax([]byte(text)); got != want {
			t.Errorf("cgroupMax(%q) = %d, want %d", text, got, want)
		}
	}
	if got := memTotal([]byte("MemTotal: 99999999999999999999 kB")); got != math.MaxInt64 {
		t.Errorf("memTotal = %d", got)
	}
}
