//go:build services

package upload

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/s3blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// onS3 is a bed whose bucket is a folder of the test server's that nobody else has.
func onS3(t *testing.T) (*bed, *s3blob.Bucket) {
	t.Helper()
	address := os.Getenv("SLUICE_TEST_S3_URL")
	if address == "" {
		t.Fatal("SLUICE_TEST_S3_URL is not set: start the servers with `make services`, run the tests with `make test-services`")
	}
	cfg, err := s3blob.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Prefix = "uploadtest/" + strings.ToLower(rand.Text())
	bucket, err := s3blob.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bucket.Close)
	b := &bed{now: time.Now(), ctx: as("acme")}
	store := repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: func() time.Time { return b.now }})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err == nil {
		b.Service, err = New(store, bus, bucket, Config{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, bucket
}

func putAt(t *testing.T, address string, content []byte) (status int, etag string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, strings.Trim(resp.Header.Get("ETag"), `"`)
}

// Parts go to the object store past the service, which holds the whole to its
// digest; of what is not completed nothing is left.
func TestPartsOnS3(t *testing.T) {
	b, bucket := onS3(t)
	data := content(2*blob.MinPartSize + 12345)
	c := Create{ContentType: "application/octet-stream", Length: int64(len(data)), SHA256: sumOf(data), Parts: true, PartSize: blob.MinPartSize}
	id := b.create(t, c)
	etags := map[int]string{}
	for _, s := range b.slots(t, id) {
		piece := data[s.Offset : s.Offset+s.Size]
		if s.Ticket != nil {
			t.Fatalf("part %d is put to this server", s.Number)
		}
		status, etag := putAt(t, s.URL, piece)
		if etags[s.Number] = etag; status != http.StatusOK {
			t.Fatalf("part %d: %d", s.Number, status)
		}
	}
	wrong := map[int]string{2: etags[1]}
	if _, err := b.Complete(b.ctx, id, Completion{ETags: wrong}); fault.CodeOf(err) != "upload_parts_mismatch" {
		t.Error(err)
	}
	if u, err := b.Complete(b.ctx, id, Completion{ETags: etags}); err != nil || u.State != Complete || u.SHA256 != sumOf(data) {
		t.Fatalf("%+v, %v", u, err)
	}
	if !bytes.Equal(b.read(t, id), data) {
		t.Error("the content is not what was sent")
	}
	other := c
	other.SHA256 = sumOf(nil)
	spoilt, open := b.create(t, other), b.create(t, c)
	for _, s := range append(b.slots(t, spoilt), b.slots(t, open)...) {
		if status, _ := putAt(t, s.URL, data[s.Offset:s.Offset+s.Size]); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	if u, err := b.Complete(b.ctx, spoilt, Completion{}); fault.CodeOf(err) != "upload_checksum" || u.State != Failed {
		t.Errorf("%+v, %v", u, err)
	}
	last := b.slots(t, open)[2] // a small one: what is refused before all of it has come may end the connection
	b.now = b.now.Add(25 * time.Hour)
	if _, err := b.Sweep(b.ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if status, _ := putAt(t, last.URL, data[last.Offset:]); status != http.StatusNotFound {
		t.Errorf("a part of an upload that has expired: %d", status)
	}
	for up, err := range bucket.Uploads(context.Background(), "") {
		t.Errorf("%+v is left, %v", up, err)
	}
	for info, err := range bucket.List(context.Background(), "", "") {
		if !strings.Contains(info.Key, string(id)) {
			t.Errorf("%s is left, %v", info.Key, err)
		}
	}
}
