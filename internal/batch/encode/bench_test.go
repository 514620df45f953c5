package encode

import (
	"syscall"
	"testing"
	"time"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
)

// BenchmarkRow is one row of ten columns in each format. What the standard
// library's CSV and excelize's stream writer take for it, and the goals, are
// measured by go run ./loadtest/bench -only encode.
func BenchmarkRow(b *testing.B) {
	for _, ext := range []string{".csv", ".csv.gz", ".csv.zst", ".jsonl", ".jsonl.zst", ".parquet", ".xlsx"} {
		b.Run(ext[1:], func(b *testing.B) {
			var size counter
			w, err := New(&size, tabletest.Plain, every[ext])
			if err != nil {
				b.Fatal(err)
			}
			rows(b, w.Write, w.Close)
			b.ReportMetric(float64(size)/float64(b.N), "B-out/row")
		})
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// rows hands b.N rows to write and then ends the file, and does not count what
// making the rows takes.
func rows(b *testing.B, write func(*table.Chunk) error, end func() error) {
	b.Helper()
	b.ReportAllocs()
	c := table.NewChunk(tabletest.Plain)
	var busy time.Duration
	for n := 0; n < b.N; n += 4096 {
		b.StopTimer()
		tabletest.FillPlain(c, n, min(4096, b.N-n))
		began := cpu(b)
		b.StartTimer()
		if err := write(c); err != nil {
			b.Fatal(err)
		}
		busy += cpu(b) - began
	}
	began := cpu(b)
	if err := end(); err != nil {
		b.Fatal(err)
	}
	busy += cpu(b) - began
	b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N), "cpu-ns/row")
}

// cpu is the processor time of the process, all threads: what a loaded machine
// does not change much.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
