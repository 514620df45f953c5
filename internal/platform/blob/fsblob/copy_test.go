package fsblob

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/blob"
)

// content reads an object, of which it is checked that it is whole.
func content(t *testing.T, b *Bucket, key string) string {
	t.Helper()
	o, err := b.Get(t.Context(), key, blob.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	text, err := io.ReadAll(o.Verified())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A copy takes no room, and is there whatever becomes of the other.
func TestCopiesShareAFile(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	put := func(text string) {
		t.Helper()
		if _, err := b.Put(t.Context(), "acme/from", strings.NewReader(text), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	for range 2 { // also where it is that file already
		if _, err := b.Copy(t.Context(), "acme/from", "acme/to", ""); err != nil {
			t.Fatal(err)
		}
	}
	from, err1 := os.Stat(filepath.Join(dir, "acme", "from%"))
	to, err2 := os.Stat(filepath.Join(dir, "acme", "to%"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(from, to) {
		t.Error("they are two files", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, tmpDir)); len(left) > 0 || err != nil {
		t.Error("left behind:", left, err)
	}
	put("another")
	if a, b := content(t, b, "acme/to"), content(t, b, "acme/from"); a != "one" || b != "another" {
		t.Errorf("%q, %q", a, b)
	}
	if err := b.Delete(t.Context(), "acme/from"); err != nil {
		t.Error(err)
	}
	if got := content(t, b, "acme/to"); got != "one" {
		t.Errorf("%q", got)
	}
}

// The sweep of what nobody owns spares a copy that was just made, whatever the age of the source; and what was
// written is as old as it says, whatever the clock.
func TestCopiesOfOldObjectsAreNew(t *testing.T) {
	clock := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	b, err := Open(t.TempDir(), Config{Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if _, err := b.Put(t.Context(), "acme/from", strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Stat(t.Context(), "acme/from"); err != nil || !info.Modified.Equal(clock) {
		t.Error(info.Modified, err)
	}
	clock = clock.Add(1000 * time.Hour)
	if made, err := b.Copy(t.Context(), "acme/from", "acme/to", ""); err != nil || !made.Modified.Equal(clock) {
		t.Error(made.Modified, err)
	}
	n, err := blob.SweepOrphans(t.Context(), b, "acme", clock.Add(-time.Hour), func(_ context.Context, key string) (bool, error) { return key == "acme/from", nil })
	if info, failed := b.Stat(t.Context(), "acme/to"); err != nil || n != 0 || failed != nil || !info.Modified.Equal(clock) {
		t.Errorf("%d were swept, it is of %s; %v, %v", n, info.Modified, err, failed)
	}
}

// Where a file has as many names as it can have, its bytes are copied.
func TestTwin(t *testing.T) {
	dir := t.TempDir()
	b := openIn(t, dir)
	if _, err := b.Put(t.Context(), "acme/from", strings.NewReader(strings.Repeat("x", 1<<20)), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	tmp, err := b.twin(t.Context(), "acme/from")
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.discard()
	if err := b.publish(t.Context(), tmp, place{name: "acme/to"}); err != nil {
		t.Fatal(err)
	}
	a, err1 := os.Stat(filepath.Join(dir, "acme", "from%"))
	c, err2 := os.Stat(filepath.Join(dir, "acme", "to%"))
	if err := errors.Join(err1, err2); err != nil || os.SameFile(a, c) || len(content(t, b, "acme/to")) != 1<<20 {
		t.Error("they are one file, or not the same", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.twin(gone, "acme/from"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
