package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/cmd/internal/models"
	"sluice/internal/inference/job"
	"sluice/internal/inference/onnx/onnxtest"
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
	queue *broker
	store *repo.Store
	bus   *cqrs.Bus
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dir := t.TempDir()
	address := "sqlite:" + filepath.Join(dir, "shared.db")
	b := newBroker(t)
	f := &fleet{queue: b, args: []string{"--nats-url=" + b.server.ClientURL(), "--database-url=" + address, "--blob-url=file:" + filepath.Join(dir, "blobs"), "--ops-addr=127.0.0.1:0",
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

const flower = `{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`

func (f *fleet) submit(t *testing.T, model, question string) job.ID {
	t.Helper()
	p, err := cqrs.Send(client(t), f.bus, job.Submit{Model: model, Input: job.Payload{Inline: json.RawMessage(question), Bytes: int64(len(question))}})
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

// cancel has a prediction cancelled, and its end awaited.
func (f *fleet) cancel(t *testing.T, id job.ID) {
	t.Helper()
	if _, err := cqrs.Send(client(t), f.bus, job.Cancel{ID: id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a cancelled prediction ends", func() bool { return f.find(t, id).Status == job.Cancelled })
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
	first := f.submit(t, "iris", flower)
	stops := make([]func(), 2)
	for i := range stops {
		_, stops[i] = f.start(t)
	}
	ids := []job.ID{first}
	for range 40 {
		ids = append(ids, f.submit(t, "iris", flower))
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

// trips is a question that keeps the model slow busy for so many of its trips.
func trips(n int) string {
	return fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":[%d%s]}]}`, n, strings.Repeat(",0", 63))
}

// A worker that is told to stop finishes what it can within the grace, and gives
// back the rest, which another begins without waiting for a lease to end.
func TestDrain(t *testing.T) {
	f := newFleet(t)
	models := filepath.Join(t.TempDir(), "models")
	if err := os.MkdirAll(filepath.Join(models, "slow", "1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(models, "slow", "1", "model.onnx"), onnxtest.Patient(), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--model-repository=" + models, "--models=slow", "--shutdown-grace=5s"}
	_, stop := f.start(t, flags...)
	// The short one is ahead: where runs at a time do not pay, the other waits for it.
	short := f.submit(t, "slow", trips(1000))
	eventually(t, "the short one runs, or ran", func() bool { return f.find(t, short).Attempt == 1 })
	endless := f.submit(t, "slow", trips(1_000_000_000))
	eventually(t, "the other runs", func() bool { return f.find(t, endless).Status == job.Running })
	began := time.Now()
	stop()
	if took := time.Since(began); took > 60*time.Second {
		t.Errorf("it stopped after %s", took)
	}
	if p := f.find(t, short); p.Status != job.Succeeded || p.Attempt != 1 {
		t.Errorf("what could end: %+v", p)
	}
	if p := f.find(t, endless); p.Status != job.Queued || p.GivenBack != 1 {
		t.Errorf("what could not: %+v", p)
	}
	f.start(t, flags...)
	eventually(t, "another begins", func() bool { p := f.find(t, endless); return p.Status == job.Running && p.Attempt == 2 })
	f.cancel(t, endless)
}

// A queue that loses everything under running workers, its streams with it, loses
// no prediction.
func TestQueueLosesEverything(t *testing.T) {
	f := newFleet(t)
	for range 2 {
		f.start(t)
	}
	var ids []job.ID
	for range 20 {
		ids = append(ids, f.submit(t, "iris", flower))
	}
	f.queue.stop()
	for range 20 {
		ids = append(ids, f.submit(t, "iris", flower))
	}
	f.queue.start()
	for _, id := range ids[20:] {
		eventually(t, "a prediction has ended", func() bool { return f.find(t, id).Status.Final() })
		if p := f.find(t, id); p.Status != job.Succeeded {
			t.Fatalf("%+v", p)
		}
	}
}
