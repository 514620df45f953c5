package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fake is a place whose set is made of shell scripts that stand in for servers.
// One is ready once it has made the file "up" in its folder.
func fake(t *testing.T, scripts map[string]string) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{root: dir, cache: dir, state: filepath.Join(dir, "state")}
	p.members = func(s *set) {
		for name, script := range scripts {
			s.add(&server{
				name:    name,
				addr:    "nowhere",
				install: func(context.Context) (string, error) { return "sh", nil },
				command: func(sh string) ([]string, error) { return []string{sh, "-c", script}, nil },
				ready: func(context.Context) error {
					_, err := os.Stat(filepath.Join(s.dir(name), "up"))
					return err
				},
			})
		}
		s.env = append(s.env, [2]string{"SLUICE_TEST_FAKE_URL", "fake://it's"})
	}
	t.Cleanup(func() { _ = do(context.Background(), p, "stop", nil) })
	return p
}

const good = "touch up; exec sleep 60"

// pids returns the processes that run, by name.
func pids(t *testing.T, p *place) map[string]int {
	t.Helper()
	s, err := open(p)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, v := range s.running() {
		out[v.name] = running(v.dir).pid
	}
	return out
}

func must(t *testing.T, p *place, verb string, names ...string) {
	t.Helper()
	if err := do(t.Context(), p, verb, names); err != nil {
		t.Fatalf("%s %v: %v", verb, names, err)
	}
}

func TestStartFindsWhatRuns(t *testing.T) {
	p := fake(t, map[string]string{"a": good, "b": good})
	must(t, p, "start")
	first := pids(t, p)
	if len(first) != 2 {
		t.Fatalf("started %v, expected a and b", first)
	}
	must(t, p, "start")
	if diff := cmp.Diff(first, pids(t, p)); diff != "" {
		t.Errorf("a second start changed what runs:\n%s", diff)
	}
}

func TestStopEndsAllAndRemovesTheData(t *testing.T) {
	p := fake(t, map[string]string{"a": good, "b": good})
	must(t, p, "start")
	must(t, p, "stop")
	if left := pids(t, p); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if _, err := os.Stat(p.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
}

func TestOneServerAloneKeepsItsData(t *testing.T) {
	p := fake(t, map[string]string{"a": good, "b": good})
	must(t, p, "start")
	before := pids(t, p)
	if err := os.WriteFile(filepath.Join(p.state, "a", "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"stop", "kill"} {
		must(t, p, verb, "a")
		if diff := cmp.Diff(map[string]int{"b": before["b"]}, pids(t, p)); diff != "" {
			t.Errorf("after %s a:\n%s", verb, diff)
		}
		must(t, p, "start", "a")
	}
	must(t, p, "restart", "a")
	after := pids(t, p)
	if after["a"] == before["a"] || after["b"] != before["b"] {
		t.Errorf("processes were %v and are %v: only a should be another", before, after)
	}
	if _, err := os.Stat(filepath.Join(p.state, "a", "data")); err != nil {
		t.Errorf("the data of a restarted server is gone: %v", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	p := fake(t, map[string]string{"a": good})
	must(t, p, "start")
	a := &process{pid: pids(t, p)["a"]}
	must(t, p, "pause", "a")
	if !a.paused() {
		t.Error("pause has returned and the server is not paused")
	}
	must(t, p, "resume", "a")
	if a.paused() {
		t.Error("resume has returned and the server is paused")
	}
	must(t, p, "pause", "a")
	must(t, p, "start") // what is asked for is a set that answers
	if a.paused() {
		t.Error("start has returned and the server is paused")
	}
}

// What a machine left that went down must not be what the next tests find.
func TestStartFromNothingFindsNoOldData(t *testing.T) {
	p := fake(t, map[string]string{"a": good})
	old := filepath.Join(p.state, "a", "data")
	if err := os.MkdirAll(filepath.Dir(old), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, p, "start")
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old data survived: %v", err)
	}
}

func TestFailureShowsTheLogAndSparesTheOthers(t *testing.T) {
	p := fake(t, map[string]string{"bad": "echo the disk is on fire; exit 3", "good": good})
	err := do(t.Context(), p, "start", nil)
	if err == nil || !strings.Contains(err.Error(), "bad: ") || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("start says %v, expected who failed and the end of its log", err)
	}
	if got := pids(t, p); len(got) != 1 || got["good"] == 0 {
		t.Errorf("running: %v, expected only the good one", got)
	}
}

func TestStrangeCallsAreRefused(t *testing.T) {
	p := fake(t, map[string]string{"a": good})
	for _, tt := range []struct {
		verb  string
		names []string
		want  string
	}{
		{"dance", nil, `unknown verb "dance"`},
		{"stop", []string{"c"}, `no server "c"; there are a`},
		{"kill", nil, "kill needs names, one or more of a"},
		{"pause", []string{"a"}, "a does not run"},
	} {
		if err := do(t.Context(), p, tt.verb, tt.names); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %v: %v, expected an error that says %q", tt.verb, tt.names, err, tt.want)
		}
	}
}

func TestWithEndsWhatItStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		failed bool
	}{
		"success": {`test "$SLUICE_TEST_FAKE_URL" = "fake://it's"`, false},
		"failure": {"exit 7", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := fake(t, map[string]string{"a": good, "b": good})
			must(t, p, "start", "b")
			before := pids(t, p)
			if err := with(t.Context(), p, []string{"sh", "-c", tt.script}); (err != nil) != tt.failed {
				t.Errorf("with: %v", err)
			}
			if diff := cmp.Diff(before, pids(t, p)); diff != "" {
				t.Errorf("what ran before does not run after it:\n%s", diff)
			}
		})
	}
}

func TestWithEndsWhatItStartedWhenInterrupted(t *testing.T) {
	p := fake(t, map[string]string{"a": good})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for running(filepath.Join(p.state, "a")) == nil && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	if err := with(ctx, p, []string{"sleep", "60"}); err == nil {
		t.Error("an interrupted command counts as passed")
	}
	if left := pids(t, p); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

func TestAddressesAvoidPortsInUse(t *testing.T) {
	p := fake(t, nil)
	used := []int{1, 2}
	base, err := p.block(used)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", loopback(base+2))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if next, err := p.block(used); err != nil || next <= base {
		t.Errorf("block = %d, %v while port %d is in use, expected a later one", next, err, base+2)
	}
	if err := p.keepBlock(base); err != nil {
		t.Fatal(err)
	}
	if kept, err := p.block(used); err != nil || kept != base {
		t.Errorf("block = %d, %v, expected the kept %d: its servers are what listens there", kept, err, base)
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	p := fake(t, nil)
	inside := make(chan struct{})
	second := make(chan error)
	err := p.locked(func() error {
		go func() { second <- p.locked(func() error { close(inside); return nil }) }()
		// Nothing may come of it however long one waits; a moment must do.
		for range 1000 {
			select {
			case <-inside:
				return errors.New("two were inside")
			default:
				time.Sleep(100 * time.Microsecond)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestEnvironmentSurvivesAShell(t *testing.T) {
	e := environment{{"A", "it's"}, {"B", "a?b&c"}}
	if got, want := e.shell(), "export A='it'\\''s'\nexport B='a?b&c'\n"; got != want {
		t.Errorf("shell() = %q, expected %q", got, want)
	}
}
