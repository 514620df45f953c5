//go:build services

package natsqueue

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/queue/queuetest"
)

// services opens queues on the cluster that `make services` runs.
func services(t testing.TB) queuetest.Env {
	addresses := os.Getenv("SLUICE_TEST_NATS_URL")
	if addresses == "" {
		t.Fatal("SLUICE_TEST_NATS_URL is not set: run `make services`, which says how")
	}
	q := connect(t, Config{URLs: strings.Split(addresses, ","), Replicas: 3})
	if err := healthy(t, q); err != nil {
		t.Fatal(err)
	}
	return queuetest.Env{Queue: q, Remove: q.remove}
}

func TestContractServices(t *testing.T) { queuetest.Run(t, services) }

func BenchmarkContractServices(b *testing.B) { queuetest.Bench(b, services) }

// One process of the three is killed while messages are published, and
// started again.
func TestNodeIsKilledWhilePublishing(t *testing.T) {
	control := os.Getenv("SLUICE_TEST_SERVICES")
	if control == "" {
		t.Fatal("SLUICE_TEST_SERVICES is not set: run `make services`, which says how")
	}
	do := func(args ...string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, control, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v: %s", control, args, err, out)
		}
	}
	q := services(t).Queue.(*Queue)
	t.Cleanup(func() { q.remove("S") })
	q.remove("S")
	storm(t, q, 100, func() {
		s, err := q.lookup(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		node := s.CachedInfo().Cluster.Leader // servers are named like their services
		do("kill", node)
		do("start", node)
	})
	if err := healthy(t, q); err != nil {
		t.Error(err)
	}
}
