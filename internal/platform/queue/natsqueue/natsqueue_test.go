package natsqueue

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// embedded opens a queue on a server in this process.
func embedded(sync time.Duration) func(t testing.TB) queuetest.Env {
	return func(t testing.TB) queuetest.Env {
		folder := t.TempDir()
		server, q := start(t, folder, sync)
		t.Cleanup(func() { end(t, server, q) })
		return queuetest.Env{Queue: q, Restart: func(t testing.TB) queue.Queue {
			end(t, server, q)
			server, q = start(t, folder, sync)
			return q
		}}
	}
}

func start(t testing.TB, folder string, sync time.Duration) (*Server, *Queue) {
	t.Helper()
	server, err := Start(t.Context(), folder, ServerConfig{Sync: sync})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	return server, q
}

func end(t testing.TB, server *Server, q *Queue) {
	t.Helper()
	q.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestContractInProcess(t *testing.T) { queuetest.Run(t, embedded(time.Second)) }

func BenchmarkContractInProcess(b *testing.B) {
	b.Run("sync=1s", func(b *testing.B) { queuetest.Bench(b, embedded(time.Second)) })
	b.Run("sync=always", func(b *testing.B) { queuetest.Bench(b, embedded(0)) })
}
