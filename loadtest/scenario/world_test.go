package scenario

import (
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sluice/loadtest/target"
)

// envNode makes the test binary a server that is ready at once.
const envNode = "SCENARIO_TEST_NODE"

func serveNode() {
	ready := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	_ = http.ListenAndServe(os.Getenv("SLUICE_OPS_ADDR"), ready) // SIGTERM ends it
}

// Whoever watches memory and CPU time meets a node while it is replaced.
func TestNodesAreWatchedWhileTheyRestart(t *testing.T) {
	addrs, err := target.FreeAddrs(3)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cfg: target.Config{Binary: os.Args[0], Log: filepath.Join(t.TempDir(), "log"), Data: t.TempDir(), Addrs: addrs, Env: []string{envNode + "=1"}}}
	if err := n.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{nodes: []*node{n}}
	restarted := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-restarted:
				return
			default:
				w.rss()
				w.cpu()
			}
		}
	})
	_ = n.server.Load().Stop() // it knows no SIGTERM, and ends with an error
	err = n.start(t.Context())
	close(restarted)
	watcher.Wait()
	if err != nil {
		t.Fatal(err)
	}
	_ = n.server.Load().Stop()
}
