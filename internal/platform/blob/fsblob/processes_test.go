package fsblob

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Two buckets on one folder share nothing but the folder, as two processes do.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	buckets := []*Bucket{openIn(t, dir), openIn(t, dir)}
	mustPut(t, buckets[0], "acme/count", "0")
	const rounds = 25
	var created atomic.Int32
	var wg sync.WaitGroup
	for w := range 4 {
		b := buckets[w%2]
		wg.Go(func() {
			for i := range rounds {
				key := "acme/new/" + strconv.Itoa(i) + "/x"
				_, err := b.Put(t.Context(), key, strings.NewReader("x"), blob.PutOptions{Condition: blob.Condition{IfAbsent: true}})
				if err == nil {
					created.Add(1)
				} else if fault.CodeOf(err) != blob.CodePrecondition {
					t.Errorf("create: %v", err)
				}
				for err := errors.New("first try"); err != nil && !t.Failed(); {
					if err = increment(t, b, "acme/count"); err != nil && fault.CodeOf(err) != blob.CodePrecondition {
						t.Errorf("increment: %v", err)
					}
				}
				// Folders come and go under the other's hands.
				passing := "acme/passing/" + strconv.Itoa(w)
				mustPut(t, b, passing, "x")
				if err := b.Delete(t.Context(), passing); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if created.Load() != rounds {
		t.Errorf("%d creations of %d keys", created.Load(), rounds)
	}
	if got := readAll(t, buckets[1], "acme/count"); got != strconv.Itoa(4*rounds) {
		t.Errorf("counted to %s, expected %d", got, 4*rounds)
	}
}

func increment(t *testing.T, b *Bucket, key string) error {
	info, err := b.Stat(t.Context(), key)
	if err != nil {
		return err
	}
	obj, err := b.Get(t.Context(), key, blob.GetOptions{IfMatch: info.ETag})
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
	_, err = b.Put(t.Context(), key, strings.NewReader(strconv.Itoa(n+1)), blob.PutOptions{Condition: blob.Condition{IfMatch: info.ETag}})
	return err
}

func readAll(t *testing.T, b *Bucket, key string) string {
	t.Helper()
	obj, err := b.Get(t.Context(), key, blob.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	text, err := io.ReadAll(obj.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
