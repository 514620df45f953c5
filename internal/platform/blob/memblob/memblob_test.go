package memblob

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/blobtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(testing.TB) blob.Bucket { return New(Config{}) }

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket { return open(t) }, blobtest.Features{UploadSHA256: true, ListsAll: true, Nests: true})
}

func BenchmarkBucket(b *testing.B) { blobtest.Bench(b, open) }
