package audit

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) {
	if round, err := strconv.Atoi(os.Getenv("AUDIT_TEST_ROUND")); err == nil {
		appendForEver(round)
	}
	goleak.VerifyTestMain(m)
}

const origin = "example.com/audit"

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newTestKey(t testing.TB) Key {
	t.Helper()
	k, err := NewKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t testing.TB, s Storage, k Key, cfg Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), s, k, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var change = Commit([]byte("salt"), []byte("payload"))

func entry(i int) Entry {
	return Entry{
		ID: fmt.Sprintf("evt_%08d", i), Time: noon.Add(time.Duration(i) * time.Second),
		Tenant: "acme", Actor: "usr_7", Action: "api_key.rotate", Kind: "api_key", Resource: "key_42",
		Outcome: OK, Request: "req_1", Correlation: "01JNA", Change: change,
	}
}

func entriesFrom(from, n int) []Entry {
	list := make([]Entry, n)
	for i := range list {
		list[i] = entry(from + i)
	}
	return list
}

func mustAppend(t testing.TB, l *Log, list []Entry) []int64 {
	t.Helper()
	indexes, err := l.Append(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return indexes
}

// snapshot is a copy of what is stored.
func snapshot(m *Memory) fstest.MapFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := make(fstest.MapFS)
	for name, data := range m.objects {
		files[name] = &fstest.MapFile{Data: append([]byte(nil), data...)}
	}
	return files
}

func verify(t testing.TB, files fs.FS, trust Trust) *Report {
	t.Helper()
	r, err := Verify(t.Context(), files, trust)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustVerify(t testing.TB, files fs.FS, trust Trust, size int64) *Report {
	t.Helper()
	r := verify(t, files, trust)
	if !r.OK() || r.Size != size || r.Entries != size {
		t.Fatalf("expected %d entries that verify, got %+v", size, r)
	}
	return r
}

// codeOf is fault.CodeOf, and empty for no error.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return fault.CodeOf(err)
}

func codes(r *Report) string {
	var list []string
	for _, p := range r.Problems {
		list = append(list, p.Code)
	}
	return strings.Join(list, " ")
}
