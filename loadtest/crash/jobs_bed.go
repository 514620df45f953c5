package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// jobBed is what durable predictions need, each process of its own: the API, two
// workers, the queue's server and a receiver of webhooks.
type jobBed struct {
	*bed
	book     book
	armory   armory
	api      *supervised
	workers  []*supervised
	nats     *supervised
	queue    string // its address
	receiver *receiver
	askers   []*asker
	models   string
	hits     map[string]int // of points
}

// hooked is the tenant whose predictions' ends are told to the receiver.
const hooked = "acme"

func newJobBed(ctx context.Context, s *settings) (_ *jobBed, err error) {
	b := &jobBed{hits: map[string]int{}}
	bin, err := s.hurtPrograms(ctx)
	if err != nil {
		return nil, err
	}
	one := *s
	one.api, one.worker = filepath.Join(bin, "api"), filepath.Join(bin, "worker")
	dir := filepath.Join(s.dir, "jobs")
	b.models = filepath.Join(dir, "models")
	if err := writeModels(b.models); err != nil {
		return nil, err
	}
	if b.armory, err = newArmory(filepath.Join(dir, "points")); err != nil {
		return nil, err
	}
	if b.receiver, err = newReceiver(filepath.Join(dir, "receiver.pem")); err != nil {
		return nil, err
	}
	b.bed, err = newBed(&one, "jobs", "")
	return b, err
}

// natsModule is the queue's server, as a program.
const natsModule = "github.com/nats-io/nats-server/v2"

// superviseNATS starts the queue's server on data of the bed's, and returns its
// address, too.
func (b *bed) superviseNATS(ctx context.Context) (*supervised, string, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(a[0])
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(b.settings.dir, b.name)
	server := &program{name: "nats", bin: filepath.Join(filepath.Dir(b.settings.api), "nats-server"), dir: dir,
		args: []string{"-js", "-a", host, "-p", port, "-sd", filepath.Join(dir, "nats")},
		up: func(ctx context.Context) bool {
			c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", a[0])
			return err == nil && c.Close() == nil
		}}
	s, err := supervise(ctx, server, nil)
	return s, "nats://" + a[0], err
}

// open starts everything, and makes the tenants and their clients.
func (b *jobBed) open(ctx context.Context) error {
	var err error
	if b.nats, b.queue, err = b.superviseNATS(ctx); err != nil {
		return err
	}
	env := b.environment()
	b.bed.api.env = append(b.bed.api.env, append(env, "SLUICE_JOB_CONCURRENCY=4")...)
	if b.api, err = supervise(ctx, b.bed.api, b.gate); err != nil {
		return err
	}
	for i := range 2 {
		p, err := b.newWorker(i, env...)
		if err != nil {
			return err
		}
		p.env = append(p.env, "SLUICE_JOB_CONCURRENCY=16")
		w, err := supervise(ctx, p, nil)
		if err != nil {
			return err
		}
		b.workers = append(b.workers, w)
	}
	return b.openTenants(ctx)
}

func (b *jobBed) environment() []string {
	u, _ := url.Parse(b.receiver.URL) // it is the server's own
	return []string{
		"SLUICE_DATA_DIR=" + b.dir, "SLUICE_DATABASE_URL=sqlite:" + b.database(), "SLUICE_NATS_URL=" + b.queue,
		"SLUICE_MODEL_REPOSITORY=" + b.models, "SLUICE_AUTH_MODE=required", "SLUICE_LIMIT_TENANT_RATE=0", "SLUICE_LIMIT_KEY_RATE=0", "SLUICE_JOB_QUARANTINE=0",
		"SLUICE_WEBHOOK_PORTS=" + u.Port(), "SLUICE_WEBHOOK_ALLOW=127.0.0.0/8", "SLUICE_WEBHOOK_TIMEOUT=2s",
		"SLUICE_WEBHOOK_CA=" + filepath.Join(b.settings.dir, b.name, "receiver.pem"), pointsVariable + "=" + b.armory.dir,
	}
}

// openTenants makes tenants, a key and clients for each, and the endpoint of the
// first one.
func (b *jobBed) openTenants(ctx context.Context) error {
	root, err := os.ReadFile(filepath.Join(b.dir, "bootstrap.key"))
	if err != nil {
		return err
	}
	admin := b.caller(strings.TrimSpace(string(root)))
	for i, tenant := range []string{hooked, "rival", "third"} {
		var key struct{ Secret string }
		for _, r := range []struct {
			path string
			body map[string]any
			into any
		}{
			{"/v1/tenants", map[string]any{"id": tenant, "name": tenant}, &struct{}{}},
			{"/v1/tenants/" + tenant + "/api-keys", map[string]any{"name": "chaos", "roles": []string{"admin"}}, &key},
		} {
			if err := made(ctx, admin, r.path, r.body, r.into); err != nil {
				return err
			}
		}
		if tenant == hooked {
			hook := map[string]any{"url": b.receiver.URL, "events": []string{"prediction.succeeded", "prediction.failed", "prediction.cancelled", "prediction.expired"}}
			if err := made(ctx, b.caller(key.Secret), "/v1/webhook-endpoints", hook, &struct{}{}); err != nil {
				return err
			}
		}
		for n := range pick(b.settings, 3, 4) {
			id, kills := i*10+n, 0
			if n == 0 {
				kills = 5 // early enough for what comes of it
			}
			b.askers = append(b.askers, &asker{kills: kills, id: id, tenant: tenant, call: b.caller(key.Secret), rng: rand.New(rand.NewPCG(b.seed, hash("asker")+uint64(id))),
				book: &b.book, pause: pick(b.settings, 100*time.Millisecond, 500*time.Millisecond)})
		}
	}
	return nil
}

func (b *jobBed) caller(credential string) *caller {
	c := newCaller("http://"+b.http, b.gate, b.tally)
	c.credential = credential
	return c
}

func made(ctx context.Context, c *caller, path string, body, into any) error {
	a, err := c.do(ctx, request{Method: http.MethodPost, Path: path, Body: body})
	if err != nil {
		return err
	}
	if !a.ok() {
		return fmt.Errorf("%s: %s %.300q", path, a, a.Body)
	}
	return json.Unmarshal(a.Body, into)
}

func (b *jobBed) all() []*supervised { return append([]*supervised{b.nats, b.api}, b.workers...) }

// endAll ends the platform in order, and then the queue.
func (b *jobBed) endAll() error {
	return endInOrder(b.nats, append([]*supervised{b.api}, b.workers...)...)
}

// close ends what still runs, in any way.
func (b *jobBed) close() {
	b.receiver.Close()
	killRest(b.all())
}
