package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/flag"
	secrets "sluice/internal/platform/identity/secret"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/telemetry"
)

func open(t *testing.T, dir string) *Node {
	t.Helper()
	cfg, err := config.Load([]string{"--data-dir=" + dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(t.Context(), cfg, Deps{Metrics: prometheus.NewRegistry(), Tracing: tracing, Health: &telemetry.Health{},
		Permissions: []access.Declaration{{Permission: "things:read"}}, Schemas: []*repo.Schema{things.Schema()}, Expiring: []string{things.Name}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs the node's components until the returned function is called.
func run(t *testing.T, n *Node) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- lifecycle.Run(ctx, lifecycle.Config{Grace: time.Second, Started: func() { close(started) }}, n.Components()...)
	}()
	select {
	case <-started:
	case err := <-done:
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

type thing struct {
	aggregate.Root[string]
	Until time.Time
}

var things = repo.Kind[string, thing]{Name: "things", Root: func(a *thing) *aggregate.Root[string] { return &a.Root }, Expires: func(a *thing) time.Time { return a.Until }}

// What ends by itself is removed, also of the kinds that the process has added.
func TestExpiredIsRemoved(t *testing.T) {
	n := open(t, t.TempDir())
	defer run(t, n)()
	err := n.Store.Do(t.Context(), repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error {
		a := &thing{Until: tx.Now().Add(time.Millisecond)}
		a.ID = "a"
		return things.Add(ctx, tx, a)
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond) // its time
	n.purgeAll(t.Context())
	if _, err := n.Store.Driver().Get(t.Context(), repo.Key{Tenant: "acme", Kind: things.Name, ID: "a"}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

// What is kept outlives the process, and is carried on by the next.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	scope := repo.Scope{Tenant: "acme", Actor: "key_1"}
	first := open(t, dir)
	if set, ok := first.Roles.Get(access.Admin); !ok || !set.Has("things:read") {
		t.Error("the process's permissions are not known")
	}
	stop := run(t, first)
	err := first.Store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
		f, err := flag.New("f", "", true, 100)
		if err != nil {
			return err
		}
		return flag.Flags.Add(ctx, tx, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	second := open(t, dir)
	defer run(t, second)()
	if on, err := flag.On(t.Context(), second.Store.Read(scope), "f", "u", false); !on || err != nil {
		t.Errorf("the flag is %t, %v", on, err)
	}
	if !bytes.Equal(first.Pseudonym(), second.Pseudonym()) {
		t.Error("pseudonyms changed")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		bounds, err := second.Queue.Bounds(t.Context(), "EVENTS")
		if err != nil {
			t.Fatal(err)
		}
		if bounds.Last >= 2 { // the tenant that every installation has, and the flag
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream holds %+v", bounds)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A failing part gives back what the others have opened.
func TestFailedOpenClosesEverything(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blobs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load([]string{"--data-dir=" + dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg, Deps{Metrics: prometheus.NewRegistry(), Tracing: tracing, Health: &telemetry.Health{}}); err == nil {
		t.Fatal("a file was taken for the folder of objects")
	}
	if err := os.Remove(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(t.Context()); err != nil { // nothing holds the store or the queue's folder
		t.Error(err)
	}
}

// One process at a time has a folder with a queue in it; the next need not wait
// for the leases of one that has died.
func TestOneProcessHasTheFolder(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	stop := run(t, first)
	cfg, err := config.Load([]string{"--data-dir=" + dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), cfg, Deps{Metrics: prometheus.NewRegistry(), Tracing: tracing, Health: &telemetry.Health{}})
	if fault.CodeOf(err) != "data_dir_in_use" {
		t.Errorf("a second process on the folder: %v", err)
	}
	stop()
	second := open(t, dir)
	if second.Owner() == "" || second.Owner() != first.Owner() {
		t.Errorf("the owners are %q and %q", first.Owner(), second.Owner())
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	var made [8]secret
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = readSecret(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range made {
		if s != made[0] {
			t.Error("several processes made several secrets")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if bytes.Equal(made[0].derive("a"), made[0].derive("b")) || !bytes.Equal(made[0].derive("a"), made[0].derive("a")) {
		t.Error("derived keys are wrong")
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(path); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// A secret that cannot be read though its name is taken is an error.
func TestSecretBehindNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret.key")
	if err := os.Symlink(filepath.Join(dir, "nothing"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(path); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("%v are left, %v", all, err)
	}
}

// An object that cannot be looked at keeps no folder of its tenant from being swept.
func TestFoldersAreSweptByThemselves(t *testing.T) {
	n := open(t, t.TempDir())
	defer func() { _ = n.Close(context.Background()) }()
	if err := n.Store.Driver().Migrate(t.Context(), []*repo.Schema{repo.LeaseSchema()}); err != nil {
		t.Fatal(err)
	}
	n.Blobs = memblob.New(memblob.Config{Now: func() time.Time { return time.Now().Add(-2 * orphanAge) }})
	n.deps.Log = slog.New(slog.DiscardHandler)
	unknown := errors.New("not known")
	for folder, err := range map[string]error{"a": unknown, "b": nil, "c": unknown} {
		if _, err := n.Blobs.Put(t.Context(), "acme/"+folder+"/x", strings.NewReader("x"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		n.deps.Objects = append(n.deps.Objects, Objects{Folder: folder, Owned: func(context.Context, *repo.Store, string, string) (bool, error) { return false, err }})
	}
	slices.SortFunc(n.deps.Objects, func(a, b Objects) int { return strings.Compare(a.Folder, b.Folder) })
	if err := n.sweepObjects(t.Context()); !errors.Is(err, unknown) {
		t.Errorf("got %v", err)
	}
	var left []string
	for info, err := range n.Blobs.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, info.Key)
	}
	if !slices.Equal(left, []string{"acme/a/x", "acme/c/x"}) {
		t.Errorf("left are %q", left)
	}
}

// The keys that seal are made once, and read again; a file of something else is
// refused, not replaced.
func TestSeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	first, err := readSeals(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := readSeals(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := again.Open(first.Seal(secrets.Of("x"), "p"), "p"); err != nil || text.Reveal() != "x" {
		t.Errorf("%v, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSeals(path); !fault.Is(err, fault.Invalid) {
		t.Errorf("an empty file: %v", err)
	}
}
