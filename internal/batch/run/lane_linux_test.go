package run

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/batch/ingest"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/spare"
)

// niced counts the reads of objects on threads of common priority.
type niced struct {
	Bucket
	common int
	reads  atomic.Int64
	high   atomic.Int64
}

func (b *niced) niceness() int {
	n, _ := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	return 20 - n
}

func (b *niced) Get(ctx context.Context, key string, o blob.GetOptions) (blob.Object, error) {
	if b.reads.Add(1); b.niceness() <= b.common {
		b.high.Add(1)
	}
	return b.Bucket.Get(ctx, key, o)
}

// Results are encoded in other formats on threads of low priority.
func TestFilesAreMadeOnSpareThreads(t *testing.T) {
	low := runtime.GOMAXPROCS(0) >= runtime.NumCPU() // else there are no such threads
	b := newBench(t, ingest.CSV, ingest.JSONL, 60)
	b.inAll()
	found := b.finish(1)
	cpu := spare.New()
	defer cpu.Close()
	bucket := &niced{Bucket: b.bucket}
	bucket.common = bucket.niceness()
	b.worker.cfg.CPU, b.worker.bucket = cpu, bucket
	turn := b.turn()
	if err := turn.onSpare(t.Context(), func() error { _, err := turn.files(t.Context(), &found); return err }); err != nil {
		t.Fatal(err)
	}
	const lowest = 19 // where all threads are, some cannot be lower
	if bucket.reads.Load() == 0 || low && bucket.common < lowest && bucket.high.Load() > 0 {
		t.Errorf("%d of %d parts are read and encoded on common threads", bucket.high.Load(), bucket.reads.Load())
	}
}
