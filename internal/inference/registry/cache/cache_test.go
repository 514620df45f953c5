package cache

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// The test program is also the process that is killed while it writes.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "fill" {
		fill(os.Args[2])
	}
	os.Exit(m.Run())
}

func content(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// fill fetches files until it is killed.
func fill(dir string) {
	c, err := Open(dir, 1<<30, nil)
	if err != nil {
		panic(err)
	}
	for i := uint64(0); ; i++ {
		data := content(i, 200_000)
		if _, err := c.Get(context.Background(), sum(data), int64(len(data)), of(data)); err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString(sum(data) + "\n")
	}
}

func of(data []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func never(t *testing.T) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		t.Error("it is fetched again")
		return nil, io.ErrUnexpectedEOF
	}
}

func open(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, limit, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestFetchedOnce(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1<<20)
	data := content(1, 1000)
	var fetched atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := c.Get(t.Context(), sum(data), 1000, func(ctx context.Context) (io.ReadCloser, error) {
				fetched.Add(1)
				return of(data)(ctx)
			})
			if err != nil || !bytes.Equal(got, data) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	again := open(t, dir, 1<<20)
	if got, err := again.Get(t.Context(), sum(data), 1000, never(t)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a restart: %v", err)
	}
}

// What is not the file is never returned, nor kept.
func TestLiesAreNotKept(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1<<20)
	data, other := content(1, 1000), content(2, 1000)
	for what, fetch := range map[string]func(context.Context) (io.ReadCloser, error){
		"other content": of(other), "short": of(data[:999]), "long": of(append(slices.Clone(data), 0)), "empty": of(nil),
	} {
		if got, err := c.Get(t.Context(), sum(data), 1000, fetch); fault.CodeOf(err) != blob.CodeChecksum || got != nil {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	for _, digest := range []string{"", "../../etc/passwd", strings.Repeat("Z", 64), sum(data)[:63]} {
		if _, err := c.Get(t.Context(), digest, 1000, of(data)); err == nil {
			t.Errorf("%q is taken for a digest", digest)
		}
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	path := filepath.Join(dir, sum(data))
	for what, damaged := range map[string][]byte{"truncated": data[:500], "flipped": append([]byte{data[0] ^ 1}, data[1:]...), "empty": nil} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(t.Context(), sum(data), 1000, of(data)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s on the disk: %v", what, err)
		}
		if on, err := os.ReadFile(path); err != nil || !bytes.Equal(on, data) {
			t.Errorf("%s on the disk is not mended: %v", what, err)
		}
	}
}

// The folder never holds more than its limit, and what was just used stays.
func TestBoundLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		limit := rapid.Int64Range(0, 3000).Draw(rt, "limit")
		c, err := Open(dir, limit, nil)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		for range rapid.IntRange(1, 12).Draw(rt, "n") {
			n := rapid.IntRange(0, 1200).Draw(rt, "size")
			data := content(rapid.Uint64Range(0, 5).Draw(rt, "seed"), n)
			if got, err := c.Get(context.Background(), sum(data), int64(n), of(data)); err != nil || !bytes.Equal(got, data) {
				rt.Fatal(err)
			}
			held := int64(0)
			entries, err := os.ReadDir(dir)
			if err != nil {
				rt.Fatal(err)
			}
			for _, e := range entries {
				info, err := e.Info()
				if err != nil {
					rt.Fatal(err)
				}
				held += info.Size()
			}
			_, err = os.Stat(filepath.Join(dir, sum(data)))
			if held > limit || (err == nil) != (int64(n) <= limit) {
				rt.Fatalf("%d bytes of %d, the last file there: %v", held, limit, err)
			}
		}
	})
}

func TestLeastRecentlyUsedMakesRoom(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 3000)
	var digests []string
	old := time.Now().Add(-time.Hour)
	for i := range uint64(3) {
		data := content(i, 1000)
		if _, err := c.Get(t.Context(), sum(data), 1000, of(data)); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, sum(data))
		if err := os.Chtimes(filepath.Join(dir, sum(data)), old, old.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(t.Context(), digests[0], 1000, never(t)); err != nil { // used again
		t.Fatal(err)
	}
	data := content(9, 1000)
	if _, err := c.Get(t.Context(), sum(data), 1000, of(data)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); slices.Contains(got, digests[1]) || !slices.Contains(got, digests[0]) || !slices.Contains(got, digests[2]) {
		t.Errorf("left: %v of %v", got, digests)
	}
}

// A process that is killed at any time leaves no file under a digest that is not
// the digest's.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "fill", dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 65*(2+3*round))
		if _, err := io.ReadFull(out, buf); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for _, name := range names(t, dir) {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !strings.HasPrefix(name, partial) && sum(data) != name {
				t.Fatalf("%s has %d bytes of another file, %v", name, len(data), err)
			}
			if strings.HasPrefix(name, partial) {
				old := time.Now().Add(-2 * stale)
				_ = os.Chtimes(filepath.Join(dir, name), old, old)
			}
		}
		open(t, dir, 1<<30)
		if got := names(t, dir); slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, partial) }) {
			t.Errorf("left: %v", got)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}
