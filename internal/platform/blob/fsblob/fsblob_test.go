package fsblob

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/blobtest"
)

func bucket(t testing.TB) blob.Bucket { return openIn(t, t.TempDir()) }

func openIn(t testing.TB, dir string) *Bucket {
	t.Helper()
	b, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket { return bucket(t) }, blobtest.Features{UploadSHA256: true, ListsAll: true, Nests: true})
}

func BenchmarkBucket(b *testing.B) { blobtest.Bench(b, bucket) }
