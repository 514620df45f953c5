package main

import (
	"context"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Nothing secret: whoever reaches the loopback of this machine may use it.
const (
	minioKey    = "sluice-test"
	minioSecret = "sluice-test-secret" //nolint:gosec // G101: no secret, see above
	minioBucket = "sluice"
)

var minioPorts = []int{21}

// addMinIO adds one node with one drive.
func (s *set) addMinIO() {
	addr, dir := loopback(s.base+minioPorts[0]), s.dir("minio")
	s.add(&server{
		name: "minio",
		addr: addr,
		env: []string{
			"MINIO_ROOT_USER=" + minioKey,
			"MINIO_ROOT_PASSWORD=" + minioSecret,
			"MINIO_BROWSER=off",
			"MINIO_UPDATE=off",
			"GOMEMLIMIT=512MiB",
		},
		install: s.place.installMinIO,
		command: func(program string) ([]string, error) {
			// Without its own folder it looks for certificates in the user's home.
			return []string{program, "server", "--quiet", "--address", addr, "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "data")}, nil
		},
		ready: func(ctx context.Context) error { return minioReady(ctx, addr) },
	})
	s.env = append(s.env, [2]string{"SLUICE_TEST_S3_URL",
		"s3://" + minioKey + ":" + minioSecret + "@" + addr + "/" + minioBucket + "?insecure=true&path_style=true"})
}

// minioReady makes the bucket that the address for tests names.
func minioReady(ctx context.Context, addr string) error {
	c, err := minio.New(addr, &minio.Options{
		Creds:      credentials.NewStaticV4(minioKey, minioSecret, ""),
		MaxRetries: 1, // the caller tries again
	})
	if err != nil {
		return err
	}
	exists, err := c.BucketExists(ctx, minioBucket)
	if err != nil || exists {
		return err
	}
	return c.MakeBucket(ctx, minioBucket, minio.MakeBucketOptions{})
}

// installMinIO builds the server from its own Go module under tools/minio,
// which keeps its many dependencies away from the program's.
func (p *place) installMinIO(ctx context.Context) (string, error) {
	return p.output(ctx, "tools/tool.sh", "minio", "minio")
}
