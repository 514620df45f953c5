package blobtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func testPutGet(t *testing.T, b blob.Bucket, _ Features) {
	put(t, b, "acme/a", "one")
	wantContent(t, b, "acme/a", "one")
	put(t, b, "acme/a", "another")
	wantContent(t, b, "acme/a", "another")
	wantNone(t, b, "acme/b")
}

// Around the sizes at which adapters change their way of working.
func testSizes(t *testing.T, b blob.Bucket, _ Features) {
	for i, size := range []int{0, 1, 511, 512, 4096, 128 << 10, 128<<10 + 1, 5 << 20, 16 << 20, 16<<20 + 1, 21 << 20} {
		content := noise(byte(i), size)
		// A plain reader: adapters may not count on Seek, nor on the size.
		info, err := b.Put(t.Context(), "acme/sized", io.MultiReader(strings.NewReader(content)), blob.PutOptions{})
		if err != nil || info.Size != int64(size) || info.SHA256 != sum(content) {
			t.Errorf("put %d bytes: %+v, %v", size, info, err)
		}
		if got, err := get(t.Context(), b, "acme/sized"); err != nil || got != content {
			t.Errorf("%d bytes came back as %d others, error %v", size, len(got), err)
		}
		if size > 16<<20 { // with what must be there, too
			opts := blob.PutOptions{PartOptions: blob.PartOptions{Size: int64(size), SHA256: sum(content)}}
			if _, err := b.Put(t.Context(), "acme/said", strings.NewReader(content), opts); err != nil {
				t.Errorf("put %d bytes, said before: %v", size, err)
			}
			if info, err := blob.Verify(t.Context(), b, "acme/said"); err != nil || info.SHA256 != sum(content) {
				t.Errorf("verify %d bytes: %+v, %v", size, info, err)
			}
		}
	}
}

func testInfo(t *testing.T, b blob.Bucket, f Features) {
	start := time.Now()
	meta := map[string]string{"model": "resnet", "note": "a \"b\", c; d=e", "x-1": "~"}
	opts := blob.PutOptions{UploadOptions: blob.UploadOptions{ContentType: "text/csv; charset=utf-8", Metadata: meta}}
	made, err := b.Put(t.Context(), "acme/info", strings.NewReader("a,b\n"), opts)
	if err != nil {
		t.Fatal(err)
	}
	meta["model"] = "changed" // the caller's map is the caller's
	want := blob.Info{
		Key: "acme/info", Size: 4, SHA256: sum("a,b\n"), ETag: made.ETag, ContentType: "text/csv; charset=utf-8",
		Metadata: map[string]string{"model": "resnet", "note": "a \"b\", c; d=e", "x-1": "~"},
	}
	check := func(what string, got blob.Info, want blob.Info) {
		t.Helper()
		if d := got.Modified.Sub(start); d < -time.Minute || d > time.Minute {
			t.Errorf("%s: modified at %s, expected about now", what, got.Modified)
		}
		got.Modified = time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if made.ETag == "" || strings.Contains(made.ETag, `"`) {
		t.Errorf("ETag %q is empty or quoted", made.ETag)
	}
	stat, err := b.Stat(t.Context(), "acme/info")
	if err != nil {
		t.Fatal(err)
	}
	check("stat", stat, want)
	obj, err := b.Get(t.Context(), "acme/info", blob.GetOptions{Range: blob.Range{Offset: 1, Length: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	check("get", obj.Info, want)
	for info, err := range b.List(t.Context(), "acme", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !f.ListsAll {
			info.ContentType, info.SHA256, info.Metadata = want.ContentType, want.SHA256, want.Metadata
		}
		check("list", info, want)
	}

	put(t, b, "acme/plain", "x")
	if info, err := b.Stat(t.Context(), "acme/plain"); err != nil || info.ContentType != blob.DefaultContentType || info.Metadata != nil {
		t.Errorf("an object without options: %+v, %v", info, err)
	}
	if other := put(t, b, "acme/info", "a;b\n"); other.ETag == made.ETag {
		t.Error("the ETag did not change with the content")
	}
	if info, err := b.Stat(t.Context(), "acme/info"); err != nil || info.Metadata != nil || info.SHA256 != sum("a;b\n") {
		t.Errorf("an overwritten object keeps parts of the old description: %+v, %v", info, err)
	}
}

func testMissing(t *testing.T, b blob.Bucket, _ Features) {
	put(t, b, "acme/dir/a", "x")
	for _, key := range []string{"acme/none", "other/none", "acme/dir", "acme/dir/a/b", "acme/dir/"[:8] + "/b"} {
		_, err := b.Stat(t.Context(), key)
		wantCode(t, "stat "+key, err, fault.NotFound, "")
		_, err = b.Get(t.Context(), key, blob.GetOptions{})
		wantCode(t, "get "+key, err, fault.NotFound, "")
		_, err = b.Get(t.Context(), key, blob.GetOptions{Range: blob.Range{Offset: 3}})
		wantCode(t, "get a range of "+key, err, fault.NotFound, "")
		_, err = b.Copy(t.Context(), key, "acme/copy", "")
		wantCode(t, "copy "+key, err, fault.NotFound, "")
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s, which is not there: %v", key, err)
		}
	}
	wantContent(t, b, "acme/dir/a", "x")
}

func testDelete(t *testing.T, b blob.Bucket, f Features) {
	keys := f.legal([]string{"acme/d/e/f", "acme/d/e/g", "acme/d/e/f/h", "acme/d/i"})
	for _, key := range keys {
		put(t, b, key, key)
	}
	for _, key := range keys {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		wantNone(t, b, key)
	}
	put(t, b, "acme/d/e/f", "again")
	wantContent(t, b, "acme/d/e/f", "again")
}

func testChecksum(t *testing.T, b blob.Bucket, _ Features) {
	for _, size := range []int{0, 10, 17 << 20} {
		content := noise(7, size)
		opts := blob.PutOptions{PartOptions: blob.PartOptions{SHA256: sum(content + "!")}}
		_, err := b.Put(t.Context(), "acme/sum", strings.NewReader(content), opts)
		wantCode(t, "a body with another digest", err, fault.Invalid, blob.CodeChecksum)
		wantNone(t, b, "acme/sum")
	}
	put(t, b, "acme/sum", "old")
	opts := blob.PutOptions{PartOptions: blob.PartOptions{SHA256: sum("new")}}
	_, err := b.Put(t.Context(), "acme/sum", strings.NewReader("nev"), opts)
	wantCode(t, "an overwrite with another digest", err, fault.Invalid, blob.CodeChecksum)
	wantContent(t, b, "acme/sum", "old")
	if _, err := b.Put(t.Context(), "acme/sum", strings.NewReader("new"), opts); err != nil {
		t.Error(err)
	}
	wantContent(t, b, "acme/sum", "new")
	if info, err := blob.Verify(t.Context(), b, "acme/sum"); err != nil || info.SHA256 != sum("new") {
		t.Errorf("verify: %+v, %v", info, err)
	}
	noUploads(t, b)
}

func testShortAndLong(t *testing.T, b blob.Bucket, _ Features) {
	for _, size := range []int{1000, 17 << 20} {
		content := noise(8, size)
		for _, said := range []int64{int64(size) - 1, int64(size) + 1} {
			opts := blob.PutOptions{PartOptions: blob.PartOptions{Size: said}}
			_, err := b.Put(t.Context(), "acme/size", strings.NewReader(content), opts)
			wantCode(t, "a body of another size", err, fault.Invalid, blob.CodeSize)
			wantNone(t, b, "acme/size")
		}
	}
	noUploads(t, b)
}

// brokenBody yields some bytes, then fails.
type brokenBody struct {
	io.Reader
	err error
}

func (r *brokenBody) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = r.err
	}
	return n, err
}

func testBrokenBody(t *testing.T, b blob.Bucket, _ Features) {
	put(t, b, "acme/kept", "old")
	broken := errors.New("the line broke")
	for _, size := range []int{0, 1000, 17 << 20} {
		for _, key := range []string{"acme/broken", "acme/kept"} {
			body := &brokenBody{strings.NewReader(noise(9, size)), broken}
			if _, err := b.Put(t.Context(), key, body, blob.PutOptions{}); !errors.Is(err, broken) {
				t.Errorf("put with a body that breaks after %d bytes: got %v, expected the body's error", size, err)
			}
		}
	}
	wantNone(t, b, "acme/broken")
	wantContent(t, b, "acme/kept", "old")
	noUploads(t, b)
}

func testCancelled(t *testing.T, b blob.Bucket, _ Features) {
	for _, size := range []int{1000, 17 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		// The context ends while the body is read; what is read is complete.
		body := io.MultiReader(strings.NewReader(noise(10, size)), readFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }))
		_, err := b.Put(ctx, "acme/cancelled", body, blob.PutOptions{})
		wantCode(t, "put when the context ends", err, fault.Canceled, "")
		wantNone(t, b, "acme/cancelled")
	}
	noUploads(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	put(t, b, "acme/there", "x")
	_, err := b.Stat(ctx, "acme/there")
	wantCode(t, "stat", err, fault.Canceled, "")
	_, err = b.Get(ctx, "acme/there", blob.GetOptions{})
	wantCode(t, "get", err, fault.Canceled, "")
	_, err = b.Begin(ctx, "acme/there", blob.UploadOptions{})
	wantCode(t, "begin", err, fault.Canceled, "")
	wantCode(t, "delete", b.Delete(ctx, "acme/there"), fault.Canceled, "")
	for _, err := range b.List(ctx, "", "") {
		wantCode(t, "list", err, fault.Canceled, "")
	}
	wantContent(t, b, "acme/there", "x")
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func testCopy(t *testing.T, b blob.Bucket, _ Features) {
	opts := blob.PutOptions{UploadOptions: blob.UploadOptions{ContentType: "text/plain", Metadata: map[string]string{"k": "v"}}}
	from, err := b.Put(t.Context(), "acme/from", strings.NewReader("content"), opts)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "acme/to/it", "replaced")
	for _, digest := range []string{"", from.SHA256} {
		info, err := b.Copy(t.Context(), "acme/from", "acme/to/it", digest)
		if err != nil || info.Key != "acme/to/it" || info.ETag != from.ETag || info.SHA256 != from.SHA256 || info.Size != 7 {
			t.Errorf("copy says %+v, %v", info, err)
		}
		got, err := b.Stat(t.Context(), "acme/to/it")
		if err != nil || got.ContentType != "text/plain" || got.Metadata["k"] != "v" || len(got.Metadata) != 1 || got.SHA256 != from.SHA256 {
			t.Errorf("the copy is %+v, %v", got, err)
		}
	}
	_, err = b.Copy(t.Context(), "acme/from", "acme/other", sum("else"))
	wantCode(t, "a copy of another digest", err, fault.Invalid, blob.CodeChecksum)
	wantNone(t, b, "acme/other")
	if _, err := b.Copy(t.Context(), "acme/from", "acme/from", ""); err != nil {
		t.Errorf("copy onto itself: %v", err)
	}

	put(t, b, "acme/from", "changed")
	wantContent(t, b, "acme/to/it", "content")
	if err := b.Delete(t.Context(), "acme/from"); err != nil {
		t.Error(err)
	}
	wantContent(t, b, "acme/to/it", "content")
}

// A copy was modified when it was made. It is made again until the store's clock,
// which may count in seconds, has moved on.
func testCopyIsNew(t *testing.T, b blob.Bucket, _ Features) {
	put(t, b, "acme/old", "content")
	from, err := b.Stat(t.Context(), "acme/old")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		made, err := b.Copy(t.Context(), "acme/old", "acme/new", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Stat(t.Context(), "acme/new")
		if err != nil {
			t.Fatal(err)
		}
		if made.Modified.After(from.Modified) && got.Modified.Equal(made.Modified) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the copy was modified at %s by its answer, at %s by stat; expected when it was made, the source is of %s", made.Modified, got.Modified, from.Modified)
		}
	}
	if now, err := b.Stat(t.Context(), "acme/old"); err != nil || now.Modified.Before(from.Modified) {
		t.Errorf("the source was modified at %s, and at %s once it was copied, error %v", from.Modified, now.Modified, err)
	}
}

// noUploads fails if a failed put has left an unfinished upload.
func noUploads(t testing.TB, b blob.UploadLister) {
	t.Helper()
	for up, err := range b.Uploads(t.Context(), "") {
		t.Errorf("an upload was left: %+v, %v", up, err)
	}
}
