package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sluice/cmd/internal/models"
	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
)

// The worker runs its own file as the sandbox: here that is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == models.ProbeCommand {
		main()
	}
	os.Exit(m.Run())
}

// fleet is workers on one queue and one store, and a client of both.
type fleet struct {
	args  []string
	store *repo.Store
	bus   *cqrs.Bus
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dir := t.TempDir()
	address := "sqlite:" + filepath.Join(dir, "shared.db")
	f := &fleet{args: []string{"--nats-url=" + broker(t), "--database-url=" + address, "--blob-url=file:" + filepath.Join(dir, "blobs"), "--ops-addr=127.0.0.1:0",
		"--secret-file=" + filepath.Join(dir, "secret.key"), "--audit-key-file=" + filepath.Join(dir, "audit.key"),
		"--model-repository=../../models", "--models=iris", "--onnxruntime=" + os.Getenv("SLUICE_ONNXRUNTIME")}}
	d, err := sqliterepo.Open(t.Context(), address, sqliterepo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Migrate(t.Context(), []*repo.Schema{job.Predictions.Schema()}); err != nil {
		t.Fatal(err)
	}
	f.store = repo.New(d, repo.Config{})
	if f.bus, err = cqrs.NewBus(f.store, cqrs.Config{}); err != nil {
		t.Fatal(err)
	}
	job.Register(f.bus, job.Config{})
	return f
}

// start runs one more worker with a data folder of its own, until stop is called.
func (f *fleet) start(t *testing.T, flags ...string) (w *worker, stop func()) {
	t.Helper()
	args := append(append([]string{"--data-dir=" + t.TempDir()}, f.args...), flags...)
	ctx, cancel := context.WithCancel(context.Background())
	started, done := make(chan *worker, 1), make(chan struct{})
	go func() {
		defer close(done)
		var stderr strings.Builder
		if code := run(ctx, process{args: args, stdout: &strings.Builder{}, stderr: &stderr, started: func(w *worker) { started <- w }}); code != 0 {
			t.Errorf("code %d, %s", code, stderr.String())
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	select {
	case w = <-started:
	case <-done:
		t.FailNow()
	}
	return w, stop
}

// client is the context of who asks for predictions.
func client(t *testing.T) context.Context {
	return access.With(t.Context(), &access.Principal{Tenant: access.DefaultTenant, Subject: "key_1", Permissions: access.SetOf(job.Run, job.Read)})
}

func (f *fleet) submit(t *testing.T, model string) job.ID {
	t.Helper()
	p, err := cqrs.Send(client(t), f.bus, job.Submit{Model: model, Input: job.Payload{
		Inline: json.RawMessage(`{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`)}})
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

func (f *fleet) find(t *testing.T, id job.ID) job.Prediction {
	t.Helper()
	p, err := cqrs.Ask(client(t), f.bus, job.Find{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return *p
}

// Workers take predictions from the same queue; which of them there are does not
// matter, and one that runs none leaves them to others.
func TestPredictions(t *testing.T) {
	f := newFleet(t)
	idle, _ := f.start(t, "--job-concurrency=0", "--model-repository=/does/not/exist", "--onnxruntime=/does/not/exist")
	if idle.models != nil {
		t.Error("a worker that runs no predictions has models")
	}
	first := f.submit(t, "iris")
	stops := make([]func(), 2)
	for i := range stops {
		_, stops[i] = f.start(t)
	}
	ids := []job.ID{first}
	for range 40 {
		ids = append(ids, f.submit(t, "iris"))
	}
	for i, id := range ids {
		eventually(t, "a prediction has ended", func() bool { return f.find(t, id).Status.Final() })
		if p := f.find(t, id); p.Status != job.Succeeded || p.Served != "2" || !strings.Contains(string(p.Output.Inline), `"label"`) {
			t.Fatalf("%+v", p)
		}
		if i == 0 {
			stops[0]()
		}
	}
}
