package blobtest

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func testIfAbsent(t *testing.T, b blob.Bucket, _ Features) {
	create := blob.PutOptions{Condition: blob.Condition{IfAbsent: true}}
	for _, size := range []int{10, 17 << 20} {
		key := "acme/new/" + strconv.Itoa(size)
		first := noise(1, size)
		if _, err := b.Put(t.Context(), key, strings.NewReader(first), create); err != nil {
			t.Fatal(err)
		}
		_, err := b.Put(t.Context(), key, strings.NewReader(noise(2, size)), create)
		wantCode(t, "create what exists", err, fault.Conflict, blob.CodePrecondition)
		wantContent(t, b, key, first)
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, strings.NewReader("second"), create); err != nil {
			t.Errorf("create what was deleted: %v", err)
		}
	}
	noUploads(t, b)
}

func testIfMatch(t *testing.T, b blob.Bucket, _ Features) {
	match := func(etag string) blob.PutOptions { return blob.PutOptions{Condition: blob.Condition{IfMatch: etag}} }
	_, err := b.Put(t.Context(), "acme/m", strings.NewReader("x"), match("0123456789abcdef0123456789abcdef"))
	wantCode(t, "replace what is not there", err, fault.Conflict, blob.CodePrecondition)
	wantNone(t, b, "acme/m")
	first := put(t, b, "acme/m", "first")
	second, err := b.Put(t.Context(), "acme/m", strings.NewReader("second"), match(first.ETag))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), "acme/m", strings.NewReader("third"), match(first.ETag))
	wantCode(t, "replace an old version", err, fault.Conflict, blob.CodePrecondition)
	wantContent(t, b, "acme/m", "second")
	if _, err := b.Get(t.Context(), "acme/m", blob.GetOptions{IfMatch: second.ETag}); err != nil {
		t.Errorf("get with the ETag: %v", err)
	}
	_, err = b.Get(t.Context(), "acme/m", blob.GetOptions{IfMatch: first.ETag})
	wantCode(t, "get an old version", err, fault.Conflict, blob.CodePrecondition)
}

// Of many that create one key at once, one does, and its content is what is there.
func testOneCreates(t *testing.T, b blob.Bucket, f Features) {
	rounds, writers := 10, 8
	if f.Slow {
		rounds = 3
	}
	for round := range rounds {
		key := "acme/once/" + strconv.Itoa(round) + "/x" // the folder is new each time
		var winner atomic.Int64
		var wins atomic.Int32
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				_, err := b.Put(t.Context(), key, strings.NewReader(noise(byte(i), 4096)), blob.PutOptions{Condition: blob.Condition{IfAbsent: true}})
				switch {
				case err == nil:
					winner.Store(int64(i))
					wins.Add(1)
				case fault.CodeOf(err) != blob.CodePrecondition:
					t.Errorf("create: %v", err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Errorf("%d of %d created %s, expected one", wins.Load(), writers, key)
		}
		wantContent(t, b, key, noise(byte(winner.Load()), 4096))
	}
}

// A counter kept with IfMatch counts every increment once.
func testCountWithIfMatch(t *testing.T, b blob.Bucket, f Features) {
	put(t, b, "acme/counter", "0")
	workers, each := 4, 25
	if f.Slow {
		each = 4
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each && !t.Failed(); {
				switch err := increment(t.Context(), b, "acme/counter"); {
				case err == nil:
					done++
				case fault.CodeOf(err) != blob.CodePrecondition:
					t.Errorf("increment: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantContent(t, b, "acme/counter", strconv.Itoa(workers*each))
}

func increment(ctx context.Context, b blob.Bucket, key string) error {
	obj, err := b.Get(ctx, key, blob.GetOptions{})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	text, err := io.ReadAll(obj.Body)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	_, err = b.Put(ctx, key, strings.NewReader(strconv.Itoa(n+1)), blob.PutOptions{Condition: blob.Condition{IfMatch: obj.Info.ETag}})
	return err
}

// Readers see one version or another, never bytes or a description of two.
func testOverwriteIsAtomic(t *testing.T, b blob.Bucket, f Features) {
	versions := make([]string, 4)
	for i := range versions {
		versions[i] = noise(byte(20+i), 200_000+i*70_000)
	}
	put(t, b, "acme/hot", versions[0])
	rounds := 40
	if f.Slow {
		rounds = 12
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for reads := 0; ctx.Err() == nil || reads == 0; reads++ {
				if info, err := blob.Verify(t.Context(), b, "acme/hot"); err != nil || info.SHA256 == "" {
					t.Errorf("a read under overwrites: %+v, %v", info, err)
					return
				}
			}
		})
	}
	for i := range rounds {
		put(t, b, "acme/hot", versions[i%len(versions)])
	}
	stop()
	wg.Wait()
}

// A body that is open goes on, whatever happens to the key.
func testOpenBodyIsStable(t *testing.T, b blob.Bucket, _ Features) {
	content := noise(5, 64<<10) // little enough to be on its way already, where there is a way
	put(t, b, "acme/open", content)
	obj, err := b.Get(t.Context(), "acme/open", blob.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	put(t, b, "acme/open", noise(6, 64<<10))
	if err := b.Delete(t.Context(), "acme/open"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(obj.Body); err != nil || string(got) != content {
		t.Errorf("the open body has %d other bytes, error %v", len(got), err)
	}
}
