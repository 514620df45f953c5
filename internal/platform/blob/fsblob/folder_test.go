package fsblob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func mustPut(t *testing.T, b *Bucket, key, content string) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, strings.NewReader(content), blob.PutOptions{}); err != nil {
		t.Error(err)
	}
}

// Every byte of an object's file is guarded: whichever is changed, or wherever
// the file is cut, reading it fails or says that it is damaged.
func TestDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	mustPut(t, b, "acme/a", "some content")
	path := filepath.Join(dir, "acme", "a"+suffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, i int, damaged []byte) {
		t.Helper()
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := blob.Verify(t.Context(), b, "acme/a"); !fault.Is(err, fault.Internal) || fault.CodeOf(err) != blob.CodeChecksum {
			t.Errorf("%s %d: %v, expected %s", what, i, err, blob.CodeChecksum)
		}
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x04
		check("changed byte", i, damaged)
		check("cut at", i, whole[:i])
		check("without the first", i+1, whole[i+1:])
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Verify(t.Context(), b, "acme/a"); err != nil {
		t.Errorf("the whole file: %v", err)
	}
}

// A part that rots before its upload is complete does not get into the object.
func TestDamagedPart(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	up, err := b.Begin(t.Context(), "acme/a", blob.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Part(t.Context(), up, 1, strings.NewReader("content"), blob.PartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, uploadDir, up.ID, "1"+suffix), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("C"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{}); fault.CodeOf(err) != blob.CodeChecksum {
		t.Errorf("complete: %v", err)
	}
	if _, err := b.Stat(t.Context(), "acme/a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("stat: %v", err)
	}
}

// Nothing but objects is listed; nothing is left of deleted ones, nor of
// uploads that have ended.
func TestFolderHoldsNothingElse(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	mustPut(t, b, "acme/a/b/c", "x")
	for _, name := range []string{"acme/README", "acme/a/.DS_Store", "acme/odd name%", "acme/%x%"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range b.List(t.Context(), "acme", "") {
		if err != nil || info.Key != "acme/a/b/c" {
			t.Errorf("listed %+v, %v", info, err)
		}
	}
	up, err := b.Begin(t.Context(), "acme/a/b/d", blob.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Abort(t.Context(), up); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "acme/a/b/c"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme/a/b", tmpDir + "/*", uploadDir + "/*"} {
		if found, err := filepath.Glob(filepath.Join(dir, name)); err != nil || len(found) > 0 {
			t.Errorf("left: %q, %v", found, err)
		}
	}
}

func TestOpenRemovesWhatIsOld(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		path := filepath.Join(dir, tmpDir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, uploadDir, "NEVERBEGUN"), 0o700); err != nil {
		t.Fatal(err)
	}
	up, err := b.Begin(t.Context(), "acme/a", blob.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	openIn(t, dir)
	for name, want := range map[string]bool{tmpDir + "/old": false, tmpDir + "/young": true, uploadDir + "/NEVERBEGUN": false, uploadDir + "/" + up.ID: true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %t, expected %t", name, err == nil, want)
		}
	}
}

// A link in the folder that leads out of it leads nowhere.
func TestLinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	b := openIn(t, dir)
	mustPut(t, openIn(t, outside), "acme/secret", "x")
	if err := os.Symlink(filepath.Join(outside, "acme"), filepath.Join(dir, "acme")); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Stat(t.Context(), "acme/secret"); err == nil {
		t.Errorf("stat through the link: %+v", info)
	}
	if _, err := b.Put(t.Context(), "acme/other", strings.NewReader("x"), blob.PutOptions{}); err == nil {
		t.Error("put through the link succeeded")
	}
	if _, err := os.Stat(filepath.Join(outside, "acme", "other"+suffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("outside: %v", err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, tmpDir)); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); fault.CodeOf(cmpErr(err)) != blob.CodeUnavailable {
		t.Errorf("without its folder: %v", err)
	}
}

// cmpErr keeps CodeOf from what is no error.
func cmpErr(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

func TestDir(t *testing.T) {
	for address, want := range map[string]string{
		"file:./data": "./data", "file:data/x": "data/x", "file:/srv/data": "/srv/data", "file:///srv/data": "/srv/data", "file:./a%20b": "./a b",
		"file:": "", "file://host/data": "", "s3://host/bucket": "", "./data": "", "file:./data?x=1": "", "%": "",
	} {
		got, err := Dir(address)
		if got != want || (err == nil) != (want != "") || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v; expected %q", address, got, err, want)
		}
	}
}

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind fault.Kind
		code string
	}{
		{&os.PathError{Err: syscall.ENOSPC}, fault.Unavailable, blob.CodeFull},
		{&os.PathError{Err: syscall.EDQUOT}, fault.Unavailable, blob.CodeFull},
		{&os.PathError{Err: syscall.EIO}, fault.Unavailable, blob.CodeUnavailable},
		{&os.PathError{Err: syscall.EACCES}, fault.Unavailable, blob.CodeUnavailable},
		{&os.PathError{Err: syscall.EROFS}, fault.Unavailable, blob.CodeUnavailable},
		{context.Canceled, fault.Canceled, "canceled"},
		{blob.NoObject("a/b"), fault.NotFound, "not_found"},
	} {
		if got := translate(c.err); !fault.Is(got, c.kind) || fault.CodeOf(got) != c.code {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	if translate(nil) != nil {
		t.Error("no error became one")
	}
}

// What was encoded decodes to itself, behind any data.
func TestDescriptionRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := description{
			SHA256: strings.Repeat("ab", 32), ContentType: rapid.String().Draw(rt, "type"), Modified: time.Unix(rapid.Int64Range(0, 1<<33).Draw(rt, "time"), 0).UTC(),
			Metadata: rapid.MapOfN(rapid.StringMatching(`[a-z]+`), rapid.StringMatching(`[ -~]*`), 1, 50).Draw(rt, "metadata"),
		}
		tail, err := want.encode()
		if err != nil {
			rt.Fatal(err)
		}
		got, n, err := decode(append(rapid.SliceOf(rapid.Byte()).Draw(rt, "data"), tail...))
		if err != nil || n != len(tail) || got.Modified != want.Modified || len(got.Metadata) != len(want.Metadata) {
			rt.Fatalf("%+v, %d, %v", got, n, err)
		}
		if _, n, err := decode(tail[len(tail)/2:]); n != 0 && n != len(tail) || err == nil {
			rt.Fatalf("half of it: %d, %v", n, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	tail, err := description{SHA256: strings.Repeat("ab", 32), Metadata: map[string]string{"a": "b"}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tail)
	f.Add(append([]byte("data"), tail...))
	f.Add(tail[10:])
	f.Fuzz(func(t *testing.T, tail []byte) {
		d, n, err := decode(tail)
		switch {
		case err == nil && (n > len(tail) || len(d.SHA256) != 64):
			t.Errorf("%d bytes of %d, digest %q", n, len(tail), d.SHA256)
		case errors.Is(err, errMore) && (n <= len(tail) || n > maxDescribe+footerSize):
			t.Errorf("asks for %d bytes, has %d", n, len(tail))
		}
	})
}

// Metadata that does not fit the first read is read all the same.
func TestLongMetadata(t *testing.T) {
	b := openIn(t, t.TempDir())
	meta := map[string]string{"long": strings.Repeat("x", blob.MaxMetadata-4)}
	if _, err := b.Put(t.Context(), "acme/a", strings.NewReader("x"), blob.PutOptions{UploadOptions: blob.UploadOptions{Metadata: meta}}); err != nil {
		t.Fatal(err)
	}
	obj, err := b.Get(t.Context(), "acme/a", blob.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	if got, err := io.ReadAll(obj.Body); err != nil || string(got) != "x" || obj.Info.Metadata["long"] != meta["long"] {
		t.Errorf("%q, %+v, %v", got, obj.Info, err)
	}
}
