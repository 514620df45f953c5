//go:build services

package s3blob

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/blobtest"
)

// bucket opens a folder of the test server's bucket that nobody else has.
func bucket(t testing.TB) blob.Bucket {
	t.Helper()
	address := os.Getenv("SLUICE_TEST_S3_URL")
	if address == "" {
		t.Fatal("SLUICE_TEST_S3_URL is not set: start the servers with `make services`, run the tests with `make test-services`")
	}
	cfg, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Prefix = "blobtest/" + strings.ToLower(rand.Text())
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket { return bucket(t) }, blobtest.Features{Presign: true, Slow: true})
}

func BenchmarkBucket(b *testing.B) { blobtest.Bench(b, bucket) }
