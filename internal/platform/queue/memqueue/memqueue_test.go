package memqueue

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func inMemory(t testing.TB) queuetest.Env {
	q, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return queuetest.Env{Queue: q}
}

func TestContract(t *testing.T) { queuetest.Run(t, inMemory) }

func BenchmarkContract(b *testing.B) { queuetest.Bench(b, inMemory) }
