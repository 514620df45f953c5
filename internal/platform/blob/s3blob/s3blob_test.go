package s3blob

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server whose bucket exists and whose other answers the test gives.
func fake(t *testing.T, answer http.HandlerFunc) *Bucket {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.Trim(r.URL.Path, "/") == "bucket" {
			return
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return openAt(t, server.Listener.Addr().String())
}

func openAt(t *testing.T, endpoint string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), Config{
		Endpoint: endpoint, Bucket: "bucket", AccessKey: "key", SecretKey: "hunter2hunter2", Insecure: true, Tries: 1, Silence: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// refuse answers as S3 does.
func refuse(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>the server's words</Message></Error>", code)
		}
	}
}

func TestErrorsAreTranslated(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
		want   string
		retry  bool
	}{
		{500, "InternalError", fault.Unavailable, blob.CodeUnavailable, true},
		{503, "SlowDown", fault.Unavailable, blob.CodeUnavailable, true},
		{502, "", fault.Unavailable, blob.CodeUnavailable, true},
		{409, "ConditionalRequestConflict", fault.Unavailable, blob.CodeUnavailable, true},
		{507, "XMinioStorageFull", fault.Unavailable, blob.CodeFull, true},
		{507, "SomethingElse", fault.Unavailable, blob.CodeFull, true},
		{403, "AccessDenied", fault.Unavailable, blob.CodeUnavailable, false},
		{403, "SignatureDoesNotMatch", fault.Unavailable, blob.CodeUnavailable, false},
		{404, "NoSuchBucket", fault.Unavailable, blob.CodeUnavailable, false},
		{412, "PreconditionFailed", fault.Conflict, blob.CodePrecondition, false},
		{400, "XAmzContentSHA256Mismatch", fault.Invalid, blob.CodeChecksum, false},
		{400, "EntityTooLarge", fault.TooLarge, "too_large", false},
		{400, "KeyTooLongError", fault.Invalid, "invalid_key", false},
	} {
		b := fake(t, refuse(c.status, c.code))
		_, err := b.Put(t.Context(), "acme/a", strings.NewReader("x"), blob.PutOptions{})
		got := fault.Of(err)
		if got == nil || got.Kind != c.kind || fault.CodeOf(err) != c.want || c.retry != (got.RetryAfter > 0) {
			t.Errorf("%d %s: %v", c.status, c.code, err)
			continue
		}
		if strings.Contains(got.Message, "hunter2") || strings.Contains(got.Message, "the server's words") {
			t.Errorf("the caller is told %q", got.Message)
		}
	}
}

func TestStatTellsTheObjectFromTheServer(t *testing.T) {
	for status, want := range map[int]fault.Kind{404: fault.NotFound, 403: fault.Unavailable, 500: fault.Unavailable, 503: fault.Unavailable} {
		b := fake(t, refuse(status, ""))
		if _, err := b.Stat(t.Context(), "acme/a"); !fault.Is(err, want) {
			t.Errorf("%d: %v, expected %s", status, err, want)
		}
		if err := b.Delete(t.Context(), "acme/a"); status != 404 && !fault.Is(err, want) {
			t.Errorf("delete, %d: %v, expected %s", status, err, want)
		}
	}
}

// wantUnavailable fails unless every operation says that the store is not available.
func wantUnavailable(t *testing.T, b *Bucket) {
	t.Helper()
	operations := map[string]func() error{
		"check": func() error { return b.Check(t.Context()) },
		"stat":  func() error { _, err := b.Stat(t.Context(), "acme/a"); return err },
		"get":   func() error { _, err := b.Get(t.Context(), "acme/a", blob.GetOptions{}); return err },
		"put": func() error {
			_, err := b.Put(t.Context(), "acme/a", strings.NewReader("x"), blob.PutOptions{})
			return err
		},
		"delete": func() error { return b.Delete(t.Context(), "acme/a") },
		"begin":  func() error { _, err := b.Begin(t.Context(), "acme/a", blob.UploadOptions{}); return err },
		"list": func() (failed error) {
			for _, err := range b.List(t.Context(), "acme", "") {
				failed = err
			}
			return failed
		},
		"uploads": func() (failed error) {
			for _, err := range b.Uploads(t.Context(), "acme") {
				failed = err
			}
			return failed
		},
	}
	for name, run := range operations {
		err := run()
		if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != blob.CodeUnavailable || fault.Of(err).RetryAfter == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// While the server is gone every operation says so; when it is back, all is well.
func TestConnectionRefused(t *testing.T) {
	there := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"x"`) })
	server := httptest.NewServer(there)
	address := server.Listener.Addr().String()
	b := openAt(t, address)
	server.Close()
	wantUnavailable(t, b)

	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	back := &httptest.Server{Listener: listener, Config: &http.Server{Handler: there}}
	back.Start()
	t.Cleanup(back.Close)
	if _, err := b.Put(t.Context(), "acme/a", strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Errorf("put when the server is back: %v", err)
	}
}

// A server that takes requests and never answers is given up.
func TestSilentServer(t *testing.T) {
	var silent atomic.Bool
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if silent.Load() {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stop) })
	b := openAt(t, server.Listener.Addr().String())
	silent.Store(true)
	wantUnavailable(t, b)
}

// A body that breaks off is an error, not a short object.
func TestBodyBreaksOff(t *testing.T) {
	b := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"x"`)
		_, _ = io.WriteString(w, "a part of it")
	})
	obj, err := b.Get(t.Context(), "acme/a", blob.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	if _, err := io.ReadAll(obj.Body); fault.CodeOf(errOr(err)) != blob.CodeUnavailable {
		t.Errorf("read: %v", err)
	}
}

func errOr(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := fake(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := b.Stat(ctx, "acme/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
}

// A server that fails once is asked again.
func TestRetries(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && asked.Add(1) == 1 {
			refuse(503, "SlowDown")(w, r)
			return
		}
		w.Header().Set("ETag", `"x"`)
	}))
	t.Cleanup(server.Close)
	b, err := Open(t.Context(), Config{Endpoint: server.Listener.Addr().String(), Bucket: "bucket", Insecure: true, AccessKey: "key", SecretKey: "secretsecret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Put(t.Context(), "acme/a", strings.NewReader("x"), blob.PutOptions{}); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

func TestCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "s3://key:secretsecret@" + server.Listener.Addr().String() + "/bucket"
	for query, want := range map[string]bool{"": false, "?ca=" + authority: true} {
		cfg, err := Parse(address + query)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), cfg)
		if (err == nil) != want || !want && !strings.Contains(fault.Of(err).Message, "certificate") {
			t.Errorf("open with %q: %v", query, err)
		}
		if err == nil {
			b.Close()
		}
	}
}

func TestBucketIsCreated(t *testing.T) {
	for name, c := range map[string]struct {
		create   string // what the server answers, empty for success
		noCreate bool
		works    bool
	}{
		"created": {works: true}, "by another node": {create: "BucketAlreadyOwnedByYou", works: true},
		"not allowed": {create: "AccessDenied"}, "not wanted": {noCreate: true},
	} {
		var exists atomic.Bool
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut:
				exists.Store(c.create != "AccessDenied")
				if c.create != "" {
					refuse(409, c.create)(w, r)
				}
			case !exists.Load():
				refuse(404, "NoSuchBucket")(w, r)
			}
		}))
		b, err := Open(t.Context(), Config{Endpoint: server.Listener.Addr().String(), Bucket: "bucket", Insecure: true, NoCreate: c.noCreate, AccessKey: "key", SecretKey: "secretsecret"})
		if (err == nil) != c.works || exists.Load() != c.works {
			t.Errorf("%s: %v, exists %t", name, err, exists.Load())
		}
		if err == nil {
			b.Close()
		}
		server.Close()
	}
}

func TestParse(t *testing.T) {
	got, err := Parse("s3://key:se%2Fcret@127.0.0.1:9000/bucket?region=eu&prefix=/a/b/&insecure=true&path_style=false&create=false")
	want := Config{
		Endpoint: "127.0.0.1:9000", Bucket: "bucket", AccessKey: "key", SecretKey: "se/cret", Region: "eu", Prefix: "a/b", Insecure: true, VirtualHost: true, NoCreate: true,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{
		"", "s3://", "s3:bucket", "http://host/bucket", "s3://host", "s3://host/a/b", "s3://key@host/bucket", "s3://host/bucket?insecure=maybe", "s3://host/bucket?prefx=x",
		"s3://host/bucket?prefix=../x", "s3://host/bucket?ca=/does/not/exist", "s3://key:hunter2%@host/bucket", "s3://key:hunter2@host/",
	} {
		if _, err := Parse(bad); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRangesAsHeaders(t *testing.T) {
	for rng, want := range map[blob.Range]string{
		{Offset: -5}:                         "bytes=-5",
		{Offset: 7}:                          "bytes=7-",
		{Offset: 7, Length: 3}:               "bytes=7-9",
		{Offset: 0, Length: math.MaxInt64}:   "bytes=0-9223372036854775806",
		{Offset: 7, Length: math.MaxInt64}:   "bytes=7-", // its end cannot be said
		{Offset: math.MaxInt64, Length: 100}: "bytes=9223372036854775807-",
	} {
		if got := rangeHeader(rng); got != want {
			t.Errorf("%+v is %s, want %s", rng, got, want)
		}
	}
}
