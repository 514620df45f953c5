package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/platform/flag"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
)

// call runs the program and returns its exit code and what it has printed.
func call(ctx context.Context, args []string, started func(*worker)) (int, string, string) {
	var stdout, stderr strings.Builder
	code := run(ctx, process{args: args, stdout: &stdout, stderr: &stderr, started: started})
	return code, stdout.String(), stderr.String()
}

func TestWhatItNeeds(t *testing.T) {
	for want, args := range map[string][]string{
		"nats.url is not set: the queue that runs within bin/api cannot be shared": {"--database-url=sqlite:x"},
		"database.url is not set: ": {"--nats-url=nats://127.0.0.1:1"},
		"unknown flag":              {"--nonsense=1"},
	} {
		code, _, stderr := call(t.Context(), args, nil)
		if code != 1 || !strings.HasPrefix(stderr, "worker: ") || !strings.Contains(stderr, want) {
			t.Errorf("%v: code %d, %q; expected %q", args, code, stderr, want)
		}
	}
}

func TestCommands(t *testing.T) {
	for want, args := range map[string][]string{
		"Usage: worker": {"--help"}, "sluice ": {"version"}, "database:": {"config"},
	} {
		if code, stdout, stderr := call(t.Context(), args, nil); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%v: code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// broker is a queue's server, on one address for as long as the test runs.
type broker struct {
	t      *testing.T
	server *server.Server
	port   int
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{t: t, port: server.RANDOM_PORT}
	b.start()
	b.port = b.server.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { b.stop() })
	return b
}

// start starts a server that has no data.
func (b *broker) start() {
	b.t.Helper()
	var err error
	b.server, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: b.port, JetStream: true, StoreDir: b.t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(10 * time.Second) {
		b.t.Fatal("the queue's server does not start")
	}
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// It carries what another process has committed into the queue and into the audit
// log, says so to probes, and ends on SIGTERM.
func TestWork(t *testing.T) {
	dir := t.TempDir()
	address := "sqlite:" + filepath.Join(dir, "shared.db")
	args := []string{"--nats-url=" + newBroker(t).server.ClientURL(), "--database-url=" + address, "--data-dir=" + dir, "--ops-addr=127.0.0.1:0", "--shutdown-notice=0s", "--job-concurrency=0"}
	code, stdout, stderr := call(t.Context(), args, func(w *worker) {
		defer func() {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}()
		commit(t, address)
		eventually(t, "the event is in the stream", func() bool {
			b, err := w.node.Queue.Bounds(t.Context(), "EVENTS")
			return err == nil && b.Last == 2 // with the tenant that every installation has
		})
		eventually(t, "nothing waits in the outbox", func() bool {
			_, body := get(t, "http://"+w.ops.Addr()+"/metrics")
			return strings.Contains(body, "sluice_outbox_pending 0")
		})
		for path, want := range map[string]string{"/readyz": `"status":"pass"`, "/metrics": "sluice_outbox_", "/livez": ""} {
			if status, body := get(t, "http://"+w.ops.Addr()+path); status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d %.300s", path, status, body)
			}
		}
	})
	if code != 0 || !strings.Contains(stdout, "Sluice worker") {
		t.Errorf("code %d, %q, %s", code, stdout, stderr)
	}
}

// commit changes the store as another process does.
func commit(t *testing.T, address string) {
	d, err := sqliterepo.Open(t.Context(), address, sqliterepo.Config{})
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close()
	if err := d.Migrate(t.Context(), []*repo.Schema{flag.Flags.Schema()}); err != nil {
		t.Error(err)
		return
	}
	err = repo.New(d, repo.Config{}).Do(t.Context(), repo.Scope{Tenant: "acme", Actor: "me"}, func(ctx context.Context, tx *repo.Tx) error {
		f, err := flag.New("f", "", true, 100)
		if err != nil {
			return err
		}
		return flag.Flags.Add(ctx, tx, f)
	})
	if err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) (int, string) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(body)
}

func eventually(t *testing.T, what string, holds func() bool) {
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Errorf("not within 20 s: %s", what)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
