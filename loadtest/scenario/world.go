package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/client"
	"sluice/loadtest/load"
	"sluice/loadtest/target"
)

// world is the servers of a run: ours, or one that was there.
type world struct {
	http, grpc string // of the first node
	balancer   *load.Balancer
	nodes      []*node
	keys       map[string]string // of tenants; "" is the platform's
	settings   Options
}

// node is a server of ours. A restart replaces it while others look at it.
type node struct {
	cfg    target.Config
	server atomic.Pointer[target.Sluice] // nil before the first start
}

func (n *node) start(ctx context.Context) error {
	s, err := target.StartSluice(ctx, n.cfg)
	if err == nil {
		n.server.Store(s)
	}
	return err
}

// start starts the servers of a scenario and makes its tenants.
func start(ctx context.Context, s *Scenario, o Options) (*world, error) {
	w := &world{http: o.HTTP, grpc: o.GRPC, keys: map[string]string{}, settings: o}
	if o.HTTP != "" {
		w.keys[""] = o.Key
		return w, nil
	}
	repository := filepath.Join(o.Folder, "models")
	for _, m := range s.Server.Models {
		if err := m.place(repository, o.ModelDir(m.Name)); err != nil {
			return nil, err
		}
	}
	var addrs []string
	for i := range s.Server.Nodes {
		free, err := target.FreeAddrs(3)
		if err != nil {
			return nil, err
		}
		n := &node{cfg: target.Config{Binary: o.Binary, Log: filepath.Join(o.Folder, fmt.Sprintf("node%d.log", i)), Addrs: free,
			Data: filepath.Join(o.Folder, fmt.Sprintf("data%d", i)), Repository: repository}}
		for name, value := range s.Server.Env {
			n.cfg.Env = append(n.cfg.Env, name+"="+value)
		}
		if len(s.Server.Tenants) > 0 {
			n.cfg.Env = append(n.cfg.Env, "SLUICE_AUTH_MODE=required", "SLUICE_LIMIT_TENANT_RATE=0", "SLUICE_LIMIT_KEY_RATE=0")
		}
		w.nodes, addrs = append(w.nodes, n), append(addrs, free[0])
		if err := n.start(ctx); err != nil {
			return nil, w.stopAfter(ctx, err)
		}
	}
	w.http, w.grpc = w.nodes[0].cfg.Addrs[0], w.nodes[0].cfg.Addrs[1]
	var err error
	if w.balancer, err = load.NewBalancer(addrs...); err == nil {
		err = w.tenants(ctx, s.Server.Tenants)
	}
	if err != nil {
		return nil, w.stopAfter(ctx, err)
	}
	return w, nil
}

// place copies a model into the repository.
func (m Model) place(repository, from string) error {
	folder := filepath.Join(repository, m.Name)
	for v := range max(m.Versions, 1) {
		if err := os.CopyFS(filepath.Join(folder, strconv.Itoa(v+1)), os.DirFS(filepath.Join(from, "1"))); err != nil {
			return err
		}
	}
	config := []byte(m.Config)
	if m.Config == "" {
		var err error
		if config, err = os.ReadFile(filepath.Join(from, "config.yaml")); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, "config.yaml"), config, 0o600)
}

// tenants makes the tenants and a key for each.
func (w *world) tenants(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	root, err := os.ReadFile(filepath.Join(w.nodes[0].cfg.Data, "bootstrap.key"))
	if err != nil {
		return err
	}
	w.keys[""] = strings.TrimSpace(string(root))
	for _, name := range names {
		if err := w.post(ctx, "/v1/tenants", map[string]any{"id": name, "name": name}, nil); err != nil {
			return err
		}
		var key struct{ Secret string }
		if err := w.post(ctx, "/v1/tenants/"+name+"/api-keys", map[string]any{"name": "load", "roles": []string{"admin"}}, &key); err != nil {
			return err
		}
		w.keys[name] = key.Secret
	}
	return nil
}

// client returns a client of the first node.
func (w *world) client() (*client.Client, error) {
	return client.New(client.Config{URL: "http://" + w.http, Key: w.keys[""]})
}

// post makes something over the native API.
func (w *world) post(ctx context.Context, path string, body, into any) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	a, err := c.Call(ctx, client.Request{Method: http.MethodPost, Path: path, Body: body})
	if err != nil || into == nil {
		return err
	}
	return a.Decode(into)
}

// watch keeps the balancer informed until ctx ends, as health checks do.
func (w *world) watch(ctx context.Context, i int) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			probe, cancel := context.WithTimeout(ctx, time.Second)
			addr := w.nodes[i].cfg.Addrs[2]
			_, err := (&target.Sluice{Ops: addr}).Get(probe, "/readyz")
			cancel()
			w.balancer.SetReady(i, err == nil)
		}
	}
}

// rss returns the resident memory of all nodes in megabytes; 0 where there are
// none of ours.
func (w *world) rss() (mb float64) {
	for _, n := range w.nodes {
		if b, err := n.server.Load().RSS(); err == nil { // one that restarts has none
			mb += float64(b) / 1e6
		}
	}
	return mb
}

// cpu returns the CPU time that the nodes have used since they started.
func (w *world) cpu() (total time.Duration) {
	for _, n := range w.nodes {
		if t, err := n.server.Load().CPU(); err == nil {
			total += t
		}
	}
	return total
}

// stopAfter stops the servers and joins their errors to that of the run. Where the run was interrupted only
// its own error is returned: a terminal's interrupt ends the servers, too.
func (w *world) stopAfter(ctx context.Context, err error) error {
	stopped := w.stop()
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, stopped)
}

func (w *world) stop() error {
	var errs []error
	for i, n := range w.nodes {
		server := n.server.Load()
		if server == nil {
			continue
		}
		if err := server.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("node %d: %w; its log ends:\n%s", i, err, server.Tail()))
		}
	}
	return errors.Join(errs...)
}
