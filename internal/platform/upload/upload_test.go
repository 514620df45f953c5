package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

// bed is a service whose clock stands, and whose bucket dies when it is told to.
type bed struct {
	*Service
	now    time.Time
	clock  func() time.Time // of now, unless a test puts another
	bucket *memblob.Bucket
	dies   *mortal
	ctx    context.Context
}

// mortal is a bucket whose process dies after so many writes: from then on
// nothing works, until it is born again.
type mortal struct {
	*memblob.Bucket
	left int // writes; negative is for ever
	dead bool

	deletes   func()                      // called before each Delete, if there is one
	completes func(context.Context) error // and before each Complete
}

var errDead = fault.New(fault.Unavailable, "the process is dead")

func (m *mortal) write(do func() error) error {
	if m.dead {
		return errDead
	}
	err := do()
	if m.left--; m.left == 0 {
		m.dead = true
		return errDead // it was done, and nobody learns it
	}
	return err
}

func (m *mortal) Put(ctx context.Context, key string, body io.Reader, o blob.PutOptions) (info blob.Info, err error) {
	return info, m.write(func() (err error) { info, err = m.Bucket.Put(ctx, key, body, o); return err })
}

func (m *mortal) Part(ctx context.Context, up blob.Upload, n int, body io.Reader, o blob.PartOptions) (p blob.Part, err error) {
	return p, m.write(func() (err error) { p, err = m.Bucket.Part(ctx, up, n, body, o); return err })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	if m.deletes != nil {
		m.deletes()
	}
	return m.Bucket.Delete(ctx, key)
}

func (m *mortal) Complete(ctx context.Context, up blob.Upload, parts []blob.Part, c blob.Condition) (info blob.Info, err error) {
	if m.completes != nil {
		if err := m.completes(ctx); err != nil {
			return info, err
		}
	}
	return info, m.write(func() (err error) { info, err = m.Bucket.Complete(ctx, up, parts, c); return err })
}

// deathly is a store that is as dead as the bucket.
type deathly struct {
	repo.Driver
	*mortal
}

func (d deathly) Commit(ctx context.Context, c *repo.Changeset) error {
	if d.dead {
		return errDead
	}
	return d.Driver.Commit(ctx, c)
}

func (d deathly) Close() error { return d.Driver.Close() }

func newBed(t testing.TB, cfg Config) *bed {
	t.Helper()
	b := &bed{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.clock = func() time.Time { return b.now }
	clock := func() time.Time { return b.clock() }
	b.bucket = memblob.New(memblob.Config{Now: clock})
	b.dies = &mortal{Bucket: b.bucket, left: -1}
	store := repo.New(deathly{memrepo.New(memrepo.Config{OneAggregate: true}), b.dies}, repo.Config{Now: clock})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err == nil {
		b.Service, err = New(store, bus, b.dies, cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.ctx = as("acme")
	return b
}

func as(tenant string) context.Context {
	return access.With(context.Background(), &access.Principal{Tenant: tenant, Subject: "key_1", Permissions: access.SetOf(Read, Write)})
}

func content(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	return data
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (b *bed) create(t testing.TB, c Create) ID {
	t.Helper()
	if c.ContentType == "" {
		c.ContentType = "application/octet-stream"
	}
	u, err := b.Create(b.ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

func (b *bed) read(t testing.TB, id ID) []byte {
	t.Helper()
	u, open, err := b.Content(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	body, err := open(b.ctx, 0, u.Length)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Clients cut off, processes that die after any write, digests that are wrong: what
// is told is kept, and in the end the content is what was sent.
func TestResumeLaw(t *testing.T) {
	data := content(2*pieceSize + 12345)
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t, Config{MaxSize: 64 << 20})
		size := rapid.SampledFrom([]int{0, 1, 100, 1000, 10_000, 100_000, pieceSize - 1, pieceSize, pieceSize + 1, len(data)}).Draw(rt, "size")
		want := data[:size]
		c := Create{Length: -1}
		if rapid.Bool().Draw(rt, "declared") {
			c.Length, c.SHA256 = int64(size), sumOf(want)
		}
		id := b.create(t, c)
		for tries := 0; ; tries++ {
			u, err := b.Find(b.ctx, id)
			if err != nil || tries > 200 {
				rt.Fatalf("%v after %d", err, tries)
			}
			if u.State == Complete {
				break
			}
			told := u.Offset
			if told > int64(size) {
				rt.Fatalf("%d bytes of %d are kept", told, size)
			}
			rest := want[told:]
			n := len(rest)
			if tries < 8 && n > 0 {
				n = rapid.OneOf(rapid.IntRange(0, n), rapid.Just(n)).Draw(rt, "n")
				b.dies.left = rapid.IntRange(-3, 6).Draw(rt, "dies after")
			} else {
				b.dies.left = -1
			}
			a := Append{Offset: told, Length: int64(n), Last: n == len(rest), Body: bytes.NewReader(rest[:n])}
			switch rapid.SampledFrom([]string{"good", "good", "digest", "wrong digest", "cut", "chunked"}).Draw(rt, "how") {
			case "digest":
				a.SHA256 = sumOf(rest[:n])
			case "wrong digest":
				if tries < 8 {
					a.SHA256 = sumOf([]byte("other"))
				}
			case "cut":
				if tries < 8 {
					a.Body = io.MultiReader(bytes.NewReader(rest[:n/2]), iotest.ErrReader(errors.New("cut off")))
				}
			case "chunked":
				a.Length = -1
			}
			_, _ = b.Append(b.ctx, id, a)
			b.dies.dead, b.dies.left = false, -1
			b.now = b.now.Add(lease)
			if u, err = b.Find(b.ctx, id); err != nil || u.Offset < told || u.State == Failed {
				rt.Fatalf("from %d to %+v, %v", told, u, err)
			}
		}
		if got := b.read(t, id); !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes came of %d", len(got), size)
		}
		b.now = b.now.Add(30 * 24 * time.Hour)
		if _, err := b.Sweep(b.ctx, "acme"); err != nil {
			rt.Fatal(err)
		}
		if _, err := blob.Sweep(b.ctx, b.bucket, "", b.now); err != nil {
			rt.Fatal(err)
		}
		if _, err := blob.SweepOrphans(b.ctx, b.bucket, "acme/"+Folder, b.now, func(ctx context.Context, key string) (bool, error) { return Owned(ctx, b.store, "acme", key) }); err != nil {
			rt.Fatal(err)
		}
		for info, err := range b.bucket.List(b.ctx, "", "") {
			rt.Fatalf("%s is left, %v", info.Key, err)
		}
	})
}

// One writer at a time; who was thought dead counts nothing any more.
func TestOneWriter(t *testing.T) {
	b := newBed(t, Config{})
	id := b.create(t, Create{Length: -1})
	inside, go1 := make(chan struct{}), make(chan struct{})
	slow := func(first, rest string) io.Reader {
		return io.MultiReader(strings.NewReader(first), readerFunc(func(p []byte) (int, error) { close(inside); <-go1; return 0, io.EOF }))
	}
	done := make(chan error)
	go func() { _, err := b.Append(b.ctx, id, Append{Length: -1, Body: slow("slow", "")}); done <- err }()
	<-inside
	if u, err := b.Append(b.ctx, id, Append{Length: 1, Body: strings.NewReader("x")}); fault.CodeOf(err) != "upload_busy" || !fault.Is(err, fault.Conflict) || u == nil {
		t.Errorf("beside another: %+v, %v", u, err)
	}
	b.now = b.now.Add(lease)
	if u, err := b.Append(b.ctx, id, Append{Length: 4, Body: strings.NewReader("fast")}); err != nil || u.Offset != 4 {
		t.Errorf("after a dead one: %+v, %v", u, err)
	}
	close(go1)
	if err := <-done; !errors.Is(err, errLost) {
		t.Errorf("the slow one: %v", err)
	}
	if u, err := b.Append(b.ctx, id, Append{Offset: 4, Length: 0, Last: true, Body: strings.NewReader("")}); err != nil || u.State != Complete || string(b.read(t, id)) != "fast" {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := b.Append(b.ctx, id, Append{Offset: 4, Length: 1, Body: strings.NewReader("x")}); fault.CodeOf(err) != "upload_complete" {
		t.Error(err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWhatIsRefused(t *testing.T) {
	b := newBed(t, Config{MaxSize: 1000, Quota: 2500, MaxUploads: 3})
	for name, tc := range map[string]struct {
		create Create
		body   string
		code   string
		state  State
	}{
		"longer than said":     {Create{Length: 3, ContentType: "text/csv"}, "abcd", "upload_too_large", Open},
		"shorter than said":    {Create{Length: 5, ContentType: "text/csv"}, "abcd", "upload_length_mismatch", Open},
		"larger than allowed":  {Create{Length: -1, ContentType: "text/csv"}, strings.Repeat("x", 1001), "upload_too_large", Open},
		"another digest":       {Create{Length: -1, SHA256: sumOf(nil), ContentType: "text/csv"}, "abcd", "upload_checksum", Failed},
		"binary for text":      {Create{Length: -1, ContentType: "text/csv"}, "PAR1\x15bcd", "upload_type_mismatch", Failed},
		"text for binary":      {Create{Length: -1, ContentType: "application/vnd.apache.parquet"}, "a,b\n", "upload_type_mismatch", Failed},
		"CSV for JSON":         {Create{Length: -1, ContentType: "application/json"}, "a,b\n", "upload_type_mismatch", Failed},
		"ZIP for a table, yes": {Create{Length: -1, ContentType: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}, "PK\x03\x04", "", Complete},
		"JSON":                 {Create{Length: -1, ContentType: "application/json; charset=utf-8"}, "\n [\"ä\"]", "", Complete},
	} {
		id := b.create(t, tc.create)
		u, err := b.Append(b.ctx, id, Append{Length: int64(len(tc.body)), Last: true, Body: strings.NewReader(tc.body)})
		if fault.CodeOf(err) != tc.code || u.State != tc.state {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		if err := b.Delete(b.ctx, id); err != nil {
			t.Error(err)
		}
	}
	// More than was said, without saying so before, spoils the upload.
	id := b.create(t, Create{Length: 3})
	if u, err := b.Append(b.ctx, id, Append{Length: -1, Body: strings.NewReader("abcd")}); fault.CodeOf(err) != "upload_too_large" || u.State != Failed {
		t.Errorf("%+v, %v", u, err)
	}
	if err := b.Delete(b.ctx, id); err != nil {
		t.Error(err)
	}
	for _, c := range []Create{{ContentType: "image/png"}, {ContentType: ";"}, {ContentType: "text/csv", Length: 1001}, {ContentType: "text/csv", SHA256: "x"}} {
		if _, err := b.Create(b.ctx, c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	b.create(t, Create{Length: -1})
	b.create(t, Create{Length: -1})
	if _, err := b.Create(b.ctx, Create{Length: 501, ContentType: "text/csv"}); fault.CodeOf(err) != "upload_quota" {
		t.Errorf("beyond the bytes: %v", err)
	}
	b.create(t, Create{Length: 500})
	if _, err := b.Create(b.ctx, Create{Length: 0, ContentType: "text/csv"}); fault.CodeOf(err) != "upload_quota" {
		t.Errorf("beyond the number: %v", err)
	}
	if _, err := b.Create(as("rival"), Create{Length: 1000, ContentType: "text/csv"}); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

// Another tenant finds nothing; what has expired is gone, and says so.
func TestTenantsAndExpiry(t *testing.T) {
	b := newBed(t, Config{Keep: time.Hour})
	id := b.create(t, Create{Length: -1})
	open := b.create(t, Create{Length: -1})
	if _, err := b.Append(b.ctx, open, Append{Length: 1, Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Content(b.ctx, id); fault.CodeOf(err) != "upload_incomplete" {
		t.Error(err)
	}
	if _, err := b.Append(b.ctx, id, Append{Length: 3, Last: true, Body: strings.NewReader("abc")}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Find(as("rival"), id); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.Append(as("rival"), id, Append{}); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	if err := b.Delete(as("rival"), id); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	b.now = b.now.Add(time.Hour)
	if _, _, err := b.Content(b.ctx, id); fault.CodeOf(err) != "upload_expired" || !fault.Is(err, fault.Gone) {
		t.Error(err)
	}
	b.now = b.now.Add(24 * time.Hour)
	n, err := b.Sweep(b.ctx, "acme")
	if n != 1 || err != nil { // the other is forgotten by now, and its object an orphan
		t.Errorf("%d, %v", n, err)
	}
	if u, err := b.Find(b.ctx, open); err != nil || u.State != Expired {
		t.Errorf("%+v, %v", u, err)
	}
}
