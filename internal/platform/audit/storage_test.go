package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/internal/platform/fault"
)

func openFolder(t testing.TB, path string) *Folder {
	t.Helper()
	f, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStorages(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) Storage{
		"memory": func(*testing.T) Storage { return new(Memory) },
		"folder": func(t *testing.T) Storage { return openFolder(t, t.TempDir()) },
	} {
		t.Run(name+"/read what was written", func(t *testing.T) { testReadWrite(t, open(t)) })
		t.Run(name+"/swap", func(t *testing.T) { testSwap(t, open(t)) })
		t.Run(name+"/one of many swaps wins", func(t *testing.T) { testSwapRace(t, open(t)) })
		t.Run(name+"/remove", func(t *testing.T) { testRemove(t, open(t)) })
	}
}

func expect(t *testing.T, s Storage, name, want string) {
	t.Helper()
	if got, err := s.Read(t.Context(), name); err != nil || string(got) != want {
		t.Errorf("%s is %q, %v; want %q", name, got, err, want)
	}
}

func testReadWrite(t *testing.T, s Storage) {
	if _, err := s.Read(t.Context(), "tile/0/000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: error is %v", err)
	}
	data := []byte("one")
	for _, name := range []string{"a", "tile/0/x001/000", "tile/0/x001/000.p/7"} {
		if err := s.Write(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
	}
	data[0] = 'X'
	expect(t, s, "a", "one")
	expect(t, s, "tile/0/x001/000", "one")
	expect(t, s, "tile/0/x001/000.p/7", "one")
	if err := s.Write(t.Context(), "a", []byte("two and more")); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "a", "two and more")
}

func testSwap(t *testing.T, s Storage) {
	swap := func(old, data string, want bool) {
		t.Helper()
		var before []byte
		if old != "" {
			before = []byte(old)
		}
		err := s.Swap(t.Context(), "x", before, []byte(data))
		if want && err != nil || !want && !fault.Is(err, fault.Conflict) {
			t.Errorf("swap of %q for %q: error is %v", old, data, err)
		}
	}
	swap("a", "b", false)
	swap("", "a", true)
	swap("", "b", false)
	swap("b", "c", false)
	expect(t, s, "x", "a")
	swap("a", "b", true)
	expect(t, s, "x", "b")
}

func testSwapRace(t *testing.T, s Storage) {
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if s.Swap(t.Context(), "x", nil, []byte{byte(i)}) == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d swaps of the same old content succeeded", won.Load())
	}
}

func testRemove(t *testing.T, s Storage) {
	for _, name := range []string{"t/000.p/1", "t/000.p/2", "t/000"} {
		if err := s.Write(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(t.Context(), "t/000.p/1", "t/000.p/3"); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "t/000.p/2", "t/000.p/2")
	if err := s.Remove(t.Context(), "t/000.p/1", "t/000.p/2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), "t/000.p/2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: error is %v", err)
	}
	expect(t, s, "t/000", "t/000")
	if err := s.Write(t.Context(), "t/000.p/1", []byte("again")); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "t/000.p/1", "again")
}

func TestFolderIsOpenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := openFolder(t, path)
	if _, err := OpenFolder(path); !fault.Is(err, fault.Conflict) {
		t.Errorf("opened twice: error is %v", err)
	}
	// What a process left that died while it wrote goes.
	left := filepath.Join(path, scratch, "left")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Close()
	openFolder(t, path)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a temporary file stayed: %v", err)
	}
}

func TestFolderLeavesNothingBehind(t *testing.T) {
	path := t.TempDir()
	l := open(t, openFolder(t, path), newTestKey(t), Config{})
	for i := range 90 {
		mustAppend(t, l, entriesFrom(i*10, 10))
	}
	var files []string
	err := fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (len(name) < 4 || name[:5] != "tile/") {
			files = append(files, name)
		}
		return err
	})
	want := []string{".lock", checkpointName, pendingName}
	if slices.Sort(files); err != nil || !slices.Equal(files, want) {
		t.Errorf("beside the tiles there are %v, want %v (%v)", files, want, err)
	}
	for _, gone := range []string{"tile/entries/000.p", "tile/0/002.p"} {
		if _, err := os.Stat(filepath.Join(path, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stays beside the full tile: %v", gone, err)
		}
	}
	mustVerify(t, os.DirFS(path), Trust{Keys: []PublicKey{l.key.Public()}}, 900)
}
