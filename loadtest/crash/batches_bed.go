package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sluice/internal/inference/onnx/onnxtest"
)

// batchBed is what batches and exports need, each process of its own: the API, two
// workers and the queue's server.
type batchBed struct {
	*bed
	api     *supervised
	workers []*supervised
	nats    *supervised
	queue   string // its address
	call    *caller

	uploads     []string // of each kind
	want        []expected
	asOf        time.Time
	wantExports []string // digests, of each kind
	runs        []asked
	exports     []asked
}

func newBatchBed(ctx context.Context, s *settings) (*batchBed, error) {
	one := *s
	bin, err := s.hurtPrograms(ctx)
	if err != nil {
		return nil, err
	}
	one.api, one.worker = filepath.Join(bin, "api"), filepath.Join(bin, "worker")
	b := &batchBed{}
	b.bed, err = newBed(&one, "batches", "")
	return b, err
}

// start starts everything.
func (b *batchBed) start(ctx context.Context) (err error) {
	model := filepath.Join(b.dir, "models", "mlp", "1")
	if err := os.MkdirAll(model, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(model, "model.onnx"), onnxtest.MLP(1, 4, 2048, 1024, 3), 0o600); err != nil {
		return err
	}
	if err := b.seed(ctx); err != nil {
		return err
	}
	if b.nats, b.queue, err = b.superviseNATS(ctx); err != nil {
		return err
	}
	env := []string{
		"SLUICE_DATA_DIR=" + b.dir, "SLUICE_DATABASE_URL=sqlite:" + b.database(), "SLUICE_NATS_URL=" + b.queue, "SLUICE_MODEL_REPOSITORY=" + filepath.Join(b.dir, "models"),
		orphanVariable + "=6s", "SLUICE_BATCH_CONCURRENCY=1", "SLUICE_BATCH_LEASE=2s", "SLUICE_BATCH_MAX_OPEN=64", "SLUICE_EXPORT_MAX_ACTIVE=64", "SLUICE_LIMIT_TENANT_RATE=0", "SLUICE_LIMIT_KEY_RATE=0",
	}
	b.bed.api.env = append(b.bed.api.env, env...)
	if b.api, err = supervise(ctx, b.bed.api, b.gate); err != nil {
		return err
	}
	for i := range 2 {
		p, err := b.newWorker(i, env...)
		if err != nil {
			return err
		}
		w, err := supervise(ctx, p, nil)
		if err != nil {
			return err
		}
		b.workers = append(b.workers, w)
	}
	b.call = newCaller("http://"+b.http, b.gate, b.tally)
	b.call.http.Timeout = time.Minute
	return nil
}

// made makes something, once, and returns its id.
func (b *batchBed) made(ctx context.Context, path, key string, body any) (string, error) {
	a, err := b.call.do(ctx, request{Method: http.MethodPost, Path: path, Key: key, Body: body})
	if err != nil {
		return "", err
	}
	var v struct{ ID string }
	if err := json.Unmarshal(a.Body, &v); err != nil || !a.ok() || v.ID == "" {
		return "", fmt.Errorf("%s: %s %.300q", path, a, a.Body)
	}
	return v.ID, nil
}

// get reads what is at a path, again on any doubt.
func (b *batchBed) get(ctx context.Context, path string) ([]byte, error) {
	a, err := b.call.do(ctx, request{Method: http.MethodGet, Path: path})
	if err == nil && !a.ok() {
		err = fmt.Errorf("%s: %s %.300q", path, a, a.Body)
	}
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

func (b *batchBed) read(ctx context.Context, path string, into any) error {
	body, err := b.get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// wait waits for the end of a batch.
func (b *batchBed) wait(ctx context.Context, id string) (shown shownBatch, err error) {
	for err == nil && ctx.Err() == nil {
		if shown, err = b.batch(ctx, id); finished(shown.Status) {
			return shown, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return shown, errors.Join(err, ctx.Err())
}

// upload uploads a file; nothing is hurt meanwhile.
func (b *batchBed) upload(ctx context.Context, content []byte) (string, error) {
	id, err := b.made(ctx, "/v1/uploads", fmt.Sprintf("upload-%d", len(b.uploads)), map[string]any{"content_type": "text/csv"})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, "http://"+b.http+"/v1/uploads/"+id, bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	for name, value := range map[string]string{"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?1"} {
		r.Header.Set(name, value)
	}
	res, err := b.call.http.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the upload was answered %d %.300q, %w", res.StatusCode, body, err)
	}
	return id, nil
}

func (b *batchBed) all() []*supervised { return append([]*supervised{b.nats, b.api}, b.workers...) }

// kills returns how many processes have ended that were not asked to.
func (b *batchBed) kills() (n int) {
	for _, p := range b.all() {
		ends, _ := p.count()
		n += ends
	}
	return n
}

func (b *batchBed) ends() string {
	var text []string
	for _, p := range b.all() {
		n, _ := p.count()
		text = append(text, fmt.Sprintf("%s %d", p.name, n))
	}
	return strings.Join(text, ", ")
}

// endAll ends the platform in order, and then the queue.
func (b *batchBed) endAll() error {
	return endInOrder(b.nats, append([]*supervised{b.api}, b.workers...)...)
}

// endInOrder ends processes, and then the queue that they use.
func endInOrder(nats *supervised, others ...*supervised) error {
	errs := make([]error, len(others))
	var all sync.WaitGroup
	for i, p := range others {
		all.Go(func() { errs[i] = p.end() })
	}
	all.Wait()
	return errors.Join(errors.Join(errs...), nats.end())
}

// close ends what still runs, in any way.
func (b *batchBed) close() { killRest(b.all()) }

// killRest ends those that still run, in any way, and for good.
func killRest(all []*supervised) {
	for _, p := range all {
		if p != nil {
			p.mu.Lock()
			p.stopped = true
			p.mu.Unlock()
			_ = p.kill() // it may have ended
		}
	}
}
