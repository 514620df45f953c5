package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/blobtest"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A resolved range is the bytes that the definition says, and resolves to itself.
func TestRangeResolves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 20).Draw(rt, "size")
		r := blob.Range{Offset: rapid.Int64Range(-25, 25).Draw(rt, "offset"), Length: rapid.Int64Range(-2, 25).Draw(rt, "length")}
		var want []int64
		for i := range size {
			from := r.Offset
			if from < 0 {
				from += size
			}
			if i >= from && (r.Length == 0 || i < max(from, 0)+r.Length) {
				want = append(want, i)
			}
		}
		got, err := r.Resolve(size)
		fails := r.Length < 0 || r.Offset > 0 && r.Offset >= size
		switch {
		case fails && fault.CodeOf(errOr(err)) == blob.CodeRange:
		case fails || err != nil:
			rt.Fatalf("%+v of %d: %+v, %v", r, size, got, err)
		case got.Length != int64(len(want)) || len(want) > 0 && got.Offset != want[0]:
			rt.Fatalf("%+v of %d: %+v, expected %v", r, size, got, want)
		}
		if again, err2 := got.Resolve(size); err == nil && got.Length > 0 && (again != got || err2 != nil) {
			rt.Fatalf("%+v resolves to %+v, %v", got, again, err2)
		}
	})
}

func errOr(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// What is a key is below each of its folders and no other.
func TestKeysAndFolders(t *testing.T) {
	part := rapid.StringMatching(`[a-zA-Z0-9_=+@~,-][a-zA-Z0-9._=+@~,-]{0,10}`)
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOfN(part, 2, 6).Draw(rt, "parts")
		key := strings.Join(parts, "/")
		if err := blob.CheckKey(key); err != nil {
			rt.Fatal(err)
		}
		for i := 1; i < len(parts); i++ {
			folder := strings.Join(parts[:i], "/")
			if blob.CheckFolder(folder) != nil || !blob.Below(folder, key) || blob.Below(folder+"x", key) || blob.Below(folder[:len(folder)-1]+"!", key) {
				rt.Fatalf("%s and %s", folder, key)
			}
		}
		if blob.Below(key, key) || !blob.Below("", key) {
			rt.Fatalf("%s is below itself, or not below everything", key)
		}
		bad := rapid.SampledFrom([]string{"/", "//", "/./", "/../", "/\x00", "/ü", "/%", "/ ", "/*", "/\\", "/" + strings.Repeat("n", 241)}).Draw(rt, "bad")
		at := rapid.IntRange(0, len(parts)-1).Draw(rt, "at")
		broken := strings.Join(parts[:at], "/") + bad + strings.Join(parts[at:], "/")
		if bad == "/" && at > 0 {
			return // a plain separator
		}
		if blob.CheckKey(broken) == nil {
			rt.Fatalf("%q passes for a key", broken)
		}
	})
	if blob.CheckKey("a/"+strings.Repeat("b/", 511)+"c") == nil {
		t.Error("a key of 1025 bytes passes")
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"a/b", "a/../b", "a//b", "a/b%", "."} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if blob.CheckKey(key) != nil {
			return
		}
		for part := range strings.SplitSeq(key, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "%\\\x00\n ") {
				t.Errorf("%q passes for a key", key)
			}
		}
	})
}

// Checked reads what a plain reader does, however the body arrives.
func TestCheckedReads(t *testing.T) {
	content := strings.Repeat("some content ", 100)
	for name, body := range map[string]io.Reader{
		"plain": strings.NewReader(content), "bytes": iotest.OneByteReader(strings.NewReader(content)),
		"halves": iotest.HalfReader(strings.NewReader(content)), "data with EOF": iotest.DataErrReader(strings.NewReader(content)),
	} {
		checked := blob.NewChecked(t.Context(), body, blob.PartOptions{Size: int64(len(content))})
		if got, err := io.ReadAll(checked); err != nil || string(got) != content || checked.Size() != int64(len(content)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	long := blob.NewChecked(t.Context(), strings.NewReader(content), blob.PartOptions{Size: 10})
	if got, err := io.ReadAll(long); len(got) > 10 || fault.CodeOf(errOr(err)) != blob.CodeSize {
		t.Errorf("a body of more than 10 bytes passed %d, %v", len(got), err)
	}
}

func TestObserved(t *testing.T) {
	registry := prometheus.NewRegistry()
	b, err := blob.Observed(memblob.New(memblob.Config{}), "files", registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Observed(b, "files", registry); err == nil {
		t.Error("two stores of one name were registered")
	}
	if _, err := b.Put(t.Context(), "acme/a", strings.NewReader("12345"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Verify(t.Context(), b, "acme/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), "acme/none"); err == nil {
		t.Fatal("found nothing")
	}
	for range b.List(t.Context(), "", "") {
		break
	}
	want := `# HELP sluice_blob_bytes_total Bytes of objects read and written.
# TYPE sluice_blob_bytes_total counter
sluice_blob_bytes_total{direction="read",store="files"} 5
sluice_blob_bytes_total{direction="written",store="files"} 5
# HELP sluice_blob_operations_total Operations on objects, by kind and outcome.
# TYPE sluice_blob_operations_total counter
sluice_blob_operations_total{operation="get",outcome="ok",store="files"} 1
sluice_blob_operations_total{operation="list",outcome="ok",store="files"} 1
sluice_blob_operations_total{operation="put",outcome="ok",store="files"} 1
sluice_blob_operations_total{operation="stat",outcome="not_found",store="files"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sluice_blob_bytes_total", "sluice_blob_operations_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "sluice_blob_operation_seconds"); n != 4 || err != nil {
		t.Errorf("%d histograms, %v", n, err)
	}
}

// Decorators change nothing of what the bucket does.
func TestDecoratorsKeepTheContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket {
		b, err := blob.Observed(memblob.New(memblob.Config{}), "x", prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		return blobtest.Faulty(b, func(string, string) blobtest.Fault { return blobtest.Fault{} })
	}, blobtest.Features{UploadSHA256: true, ListsAll: true, Nests: true})
}

func TestFaulty(t *testing.T) {
	var next blobtest.Fault
	mem := memblob.New(memblob.Config{})
	b := blobtest.Faulty(mem, func(operation, key string) blobtest.Fault {
		if operation == "Put" && key == "acme/a" || operation == "Get" || operation == "List" {
			return next
		}
		return blobtest.Fault{}
	})
	put := func(key string) error {
		_, err := b.Put(t.Context(), key, strings.NewReader("content"), blob.PutOptions{})
		return err
	}
	there := func() bool { _, err := mem.Stat(t.Context(), "acme/a"); return err == nil }

	next = blobtest.Fault{Err: blob.Full(errors.New("no space left"))}
	if err := put("acme/a"); fault.CodeOf(errOr(err)) != blob.CodeFull || there() {
		t.Errorf("put: %v, there: %t", err, there())
	}
	if err := put("acme/b"); err != nil {
		t.Errorf("put of another key: %v", err)
	}
	next = blobtest.Fault{Cut: 3}
	if err := put("acme/a"); !errors.Is(err, io.ErrUnexpectedEOF) || there() {
		t.Errorf("put of a body that breaks off: %v, there: %t", err, there())
	}
	if _, err := blob.Verify(t.Context(), b, "acme/b"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("get of a body that breaks off: %v", err)
	}
	next = blobtest.Fault{Err: blob.Unavailable(errors.New("lost")), After: true}
	if err := put("acme/a"); fault.CodeOf(errOr(err)) != blob.CodeUnavailable || !there() {
		t.Errorf("put whose answer is lost: %v, there: %t", err, there())
	}
	seen, failed := 0, error(nil)
	for _, err := range b.List(t.Context(), "", "") {
		if failed = err; err == nil {
			seen++
		}
	}
	if seen != 2 || failed == nil {
		t.Errorf("a list that fails at its end: %d keys, %v", seen, failed)
	}
}

func TestFaultyDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blobtest.Faulty(memblob.New(memblob.Config{}), func(string, string) blobtest.Fault { return blobtest.Fault{Delay: time.Minute} })
		start := time.Now()
		if err := b.Delete(t.Context(), "acme/a"); err != nil || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Delete(ctx, "acme/a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// Sweep goes on where one abort fails, and says so.
func TestSweepGoesOn(t *testing.T) {
	b := memblob.New(memblob.Config{})
	for _, key := range []string{"acme/a", "acme/b", "acme/c"} {
		if _, err := b.Begin(t.Context(), key, blob.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	faulty := blobtest.Faulty(b, func(operation, key string) blobtest.Fault {
		if operation == "Abort" && key == "acme/b" {
			return blobtest.Fault{Err: broken}
		}
		return blobtest.Fault{}
	})
	if n, err := blob.Sweep(t.Context(), faulty, "", time.Now().Add(time.Hour)); n != 2 || !errors.Is(err, broken) {
		t.Errorf("swept %d, %v", n, err)
	}
}

// Old objects without an owner go, all others stay, however many there are.
func TestSweepOrphans(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := memblob.New(memblob.Config{Now: func() time.Time { return now }})
	put := func(key string) {
		t.Helper()
		if _, err := b.Put(t.Context(), key, strings.NewReader("x"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1200 {
		put(fmt.Sprintf("acme/things/%04d", i))
	}
	put("acme/other/1")
	put("acme-2/things/1")
	put("b/1")
	now = now.Add(time.Hour)
	put("acme/things/new")
	n, err := blob.SweepOrphans(t.Context(), b, "acme/things", now, func(_ context.Context, key string) (bool, error) {
		if strings.HasSuffix(key, "07") {
			return false, errors.New("cannot be looked at")
		}
		return strings.HasSuffix(key, "0"), nil
	})
	if n != 1200-120-12 || err == nil {
		t.Errorf("%d were deleted, %v", n, err)
	}
	left := 0
	for info, err := range b.List(t.Context(), "", "") {
		if left++; err != nil || strings.HasPrefix(info.Key, "acme/things/") && !strings.HasSuffix(info.Key, "0") && !strings.HasSuffix(info.Key, "07") && !strings.HasSuffix(info.Key, "new") {
			t.Errorf("%s is left, %v", info.Key, err)
		}
	}
	if left != 120+12+4 {
		t.Errorf("%d are left", left)
	}
	var roots []string
	for root, err := range blob.Roots(t.Context(), b) {
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	if !slices.Equal(roots, []string{"acme-2", "acme", "b"}) {
		t.Errorf("roots %q", roots)
	}
}
