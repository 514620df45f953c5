package encode

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// every combination of formats and compressions that there is.
var every = map[string]Options{
	".csv": {Format: CSV}, ".csv.gz": {Format: CSV, Compression: Gzip}, ".csv.zst": {Format: CSV, Compression: Zstd},
	".jsonl": {Format: JSONL, Compression: None}, ".jsonl.gz": {Format: JSONL, Compression: Gzip}, ".jsonl.zst": {Format: JSONL, Compression: Zstd},
	".parquet": {Format: Parquet, About: [][2]string{{"dataset", "x"}}}, ".xlsx": {Format: XLSX},
}

func write(t testing.TB, o Options, chunk int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := New(&out, tabletest.Plain, o)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 3000
	c := table.NewChunk(tabletest.Plain)
	for n := 0; n < rows; n += chunk {
		tabletest.FillPlain(c, n, min(chunk, rows-n))
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The bytes of a file depend on its rows, not on how they came.
func TestTheSameRowsAreTheSameBytes(t *testing.T) {
	for ext, o := range every {
		t.Run(ext, func(t *testing.T) {
			if o.Extension() != ext {
				t.Errorf("extension %q", o.Extension())
			}
			if a, b := write(t, o, 1024), write(t, o, 1024); !bytes.Equal(a, b) {
				t.Error("two files of the same rows differ")
			}
			if ext == ".parquet" { // pages end where chunks do
				return
			}
			if a, b := write(t, o, 1024), write(t, o, 777); !bytes.Equal(a, b) {
				t.Error("the bytes depend on the size of chunks")
			}
		})
	}
}

func TestCompressedIsTheSame(t *testing.T) {
	for _, f := range []Format{CSV, JSONL} {
		plain := write(t, Options{Format: f}, 1024)
		zr, err := gzip.NewReader(bytes.NewReader(write(t, Options{Format: f, Compression: Gzip}, 1024)))
		if err != nil {
			t.Fatal(err)
		}
		zs, err := zstd.NewReader(bytes.NewReader(write(t, Options{Format: f, Compression: Zstd}, 1024)))
		if err != nil {
			t.Fatal(err)
		}
		defer zs.Close()
		for name, r := range map[string]io.Reader{"gzip": zr, "zstd": zs} {
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes instead of %d, %v", f, name, len(got), len(plain), err)
			}
		}
	}
}

func TestOptionsCheck(t *testing.T) {
	for name, o := range map[string]Options{
		"format": {Format: "xls"}, "no format": {}, "csv": {Format: CSV, Compression: Snappy}, "jsonl": {Format: JSONL, Compression: "rar"},
		"parquet": {Format: Parquet, Compression: "rar"}, "xlsx": {Format: XLSX, Compression: Zstd}, "sheets": {Format: XLSX, SheetRows: -1},
		"dialect": func() Options { o := Options{Format: CSV}; o.CSV.Delimiter = 'x'; return o }(),
	} {
		_, err := New(io.Discard, tabletest.Plain, o)
		if !fault.Is(err, fault.Invalid) || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(io.Discard, nil, Options{Format: CSV}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no columns: %v", err)
	}
	for ext, o := range every {
		if !strings.Contains(o.MediaType(), "/") || o.Check() != nil {
			t.Errorf("%s: %s, %v", ext, o.MediaType(), o.Check())
		}
	}
}

// A file of any length takes the memory of a buffer. Parquet's is that of a row
// group, see its own options.
func TestMemoryIsBounded(t *testing.T) {
	for _, ext := range []string{".csv.zst", ".xlsx"} {
		w, err := New(io.Discard, tabletest.Plain, every[ext])
		if err != nil {
			t.Fatal(err)
		}
		c := table.NewChunk(tabletest.Plain)
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		var first int64
		const rows, step = 20_000, 2_000
		for n := 0; n < rows; n += step {
			tabletest.FillPlain(c, n, step)
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				first = heap()
			}
		}
		if grown := heap() - first; grown > 2<<20 {
			t.Errorf("%s: %d rows took %d KiB more", ext, rows, grown>>10)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAFullDiskIsTold(t *testing.T) {
	for ext, o := range every {
		w, err := New(full{}, tabletest.Plain, o)
		if err != nil {
			t.Fatal(err)
		}
		c := table.NewChunk(tabletest.Plain)
		tabletest.FillPlain(c, 0, 100)
		if err := errors.Join(w.Write(c), w.Close()); err == nil {
			t.Errorf("%s: closed as if all were well", ext)
		}
	}
}
