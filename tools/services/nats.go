package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const natsModule = "github.com/nats-io/nats-server/v2"

// Offsets within the block: three for clients, three for the cluster.
var natsPorts = []int{1, 2, 3, 11, 12, 13}

// addNATS adds three nodes of one JetStream cluster.
func (s *set) addNATS() {
	var urls, routes []string
	for i := range 3 {
		urls = append(urls, "nats://"+loopback(s.base+natsPorts[i]))
		routes = append(routes, "nats://"+loopback(s.base+natsPorts[i+3]))
	}
	for i, url := range urls {
		name := "nats-" + strconv.Itoa(i+1)
		dir := s.dir(name)
		s.add(&server{
			name:    name,
			addr:    strings.TrimPrefix(url, "nats://"),
			env:     []string{"GOMEMLIMIT=256MiB"},
			install: s.place.installNATS,
			command: func(program string) ([]string, error) {
				config := natsConfig(name, urls[i], routes[i], routes, dir)
				file := filepath.Join(dir, "nats.conf")
				return []string{program, "--config", file}, os.WriteFile(file, []byte(config), 0o644)
			},
			ready: func(ctx context.Context) error { return natsReady(ctx, url, name, s.nodes()) },
		})
	}
	s.env = append(s.env, [2]string{"SLUICE_TEST_NATS_URL", strings.Join(urls, ",")})
}

// nodes counts the NATS nodes that run and are not frozen.
func (s *set) nodes() (n int) {
	for _, v := range s.servers {
		if p := running(v.dir); strings.HasPrefix(v.name, "nats-") && p != nil && !p.paused() {
			n++
		}
	}
	return n
}

// natsConfig leaves what it does not name at the server's defaults. Without
// sync_interval: always, an acknowledged message may lie in the page cache for
// two minutes.
func natsConfig(name, client, route string, routes []string, dir string) string {
	host := func(url string) string { return strings.TrimPrefix(url, "nats://") }
	return fmt.Sprintf(`server_name: %s
listen: %q
jetstream {
  store_dir: %q
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 32GB
}
cluster {
  name: sluice
  listen: %q
  routes: ["%s"]
}
`, name, host(client), filepath.Join(dir, "data"), host(route), strings.Join(routes, `", "`))
}

// natsReady asks a node for a stream on as many nodes as run. A node may answer
// while the cluster has no leader yet, or knows only two of its three members,
// and a test would then fail to make its streams. The last node to come up sees
// all three running, so it is the one that waits for the whole cluster.
func natsReady(ctx context.Context, url, name string, nodes int) error {
	nc, err := nats.Connect(url, nats.NoReconnect(), nats.IgnoreDiscoveredServers())
	if err != nil {
		return err
	}
	defer nc.Close()
	// A request to a cluster between two leaders is never answered: ask again soon.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if nodes < len(natsPorts)/2 { // one is down on purpose: no stream can be on all
		_, err = js.AccountInfo(ctx)
		return err
	}
	stream := jetstream.StreamConfig{Name: "ready-" + name, Storage: jetstream.MemoryStorage, Replicas: nodes}
	if _, err := js.CreateOrUpdateStream(ctx, stream); err != nil {
		return err
	}
	return js.DeleteStream(ctx, stream.Name)
}

// installNATS builds the server at the version that the program embeds.
func (p *place) installNATS(ctx context.Context) (string, error) {
	version, err := p.output(ctx, "go", "list", "-m", "-f", "{{.Version}}", natsModule)
	if err != nil {
		return "", err
	}
	return p.installed("nats-server-"+version, func(target string) error {
		_, err := p.output(ctx, "go", "build", "-trimpath", "-o", target, natsModule)
		return err
	})
}
