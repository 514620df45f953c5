package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Readers see what the writer has committed, and cannot write; only the process's
// user may read the file; a full file says so.
func TestFile(t *testing.T) {
	path, err := Path("sqlite:" + filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Private(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	w, err := Writer(path, Options{MaxSize: 20 * PageSize, Lazy: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReaders(path, Options{Readers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Script("CREATE TABLE t (a, b) STRICT"); err == nil {
		t.Error("a strict table took columns without types")
	}
	if err := w.Script("CREATE TABLE t (a INTEGER, b BLOB) STRICT; BEGIN IMMEDIATE"); err != nil || !w.InTransaction() {
		t.Fatal(err)
	}
	s := New("INSERT INTO t VALUES (?, ?)", int64(7))
	s.Bind([]byte("x"))
	if err := w.Exec(s); err != nil || s.Arguments() != 2 {
		t.Fatal(err)
	}
	count := func() (n int64) {
		t.Helper()
		if err := r.Query(t.Context(), New("SELECT count(*) FROM t"), func(row []Value) error { n = row[0].(int64); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count() != 0 {
		t.Error("a reader sees what is not committed")
	}
	if err := w.Exec(New("COMMIT")); err != nil || count() != 1 {
		t.Errorf("after the commit: %d, %v", count(), err)
	}
	if n, err := w.One(New("SELECT a FROM t")); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := r.Query(t.Context(), New("DELETE FROM t"), func([]Value) error { return nil }); err == nil {
		t.Error("a reader wrote")
	}
	full := w.Exec(New("INSERT INTO t VALUES (1, ?)", make([]byte, 40*PageSize)))
	if fault.CodeOf(Translate(full)) != "storage_full" {
		t.Errorf("a full file: %v", full)
	}
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if err := r.Query(context.Background(), New("SELECT 1"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPathRefuses(t *testing.T) {
	for _, address := range []string{"", "sqlite:", "sqlite::memory:", "a\x00b"} {
		if _, err := Path(address); fault.CodeOf(err) != "invalid_store_address" {
			t.Errorf("%q: %v", address, err)
		}
	}
}
