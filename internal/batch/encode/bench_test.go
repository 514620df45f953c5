package encode

import (
	"encoding/csv"
	"io"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
)

// BenchmarkRow is one row of ten columns in each format, beside what the
// standard library's CSV and excelize's stream writer take for it. The goals
// are ratios within one run (go test -benchtime 1000000x): csv at most half of
// encoding/csv, parquet at most as much, xlsx at most an eighth of excelize.
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
	b.Run("encoding_csv", standardCSV)
	b.Run("excelize", standardXLSX)
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

func standardCSV(b *testing.B) {
	w := csv.NewWriter(io.Discard)
	record := make([]string, len(tabletest.Plain))
	rows(b, func(c *table.Chunk) error {
		for r := range c.Rows() {
			for i := range record {
				switch col := c.Column(i); col.Type {
				case table.String:
					record[i] = string(col.Text(r))
				case table.Int:
					record[i] = strconv.FormatInt(col.Ints[r], 10)
				case table.Float:
					record[i] = strconv.FormatFloat(col.Floats[r], 'f', -1, 64)
				case table.Bool:
					record[i] = strconv.FormatBool(col.Bools[r])
				case table.Time:
					record[i] = time.UnixMicro(col.Ints[r]).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
				}
			}
			if err := w.Write(record); err != nil {
				return err
			}
		}
		return nil
	}, func() error { w.Flush(); return w.Error() })
}

func standardXLSX(b *testing.B) {
	f := excelize.NewFile()
	defer f.Close()
	w, err := f.NewStreamWriter("Sheet1")
	if err != nil {
		b.Fatal(err)
	}
	style, err := f.NewStyle(&excelize.Style{NumFmt: 22})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	cells := make([]any, len(tabletest.Plain))
	rows(b, func(c *table.Chunk) error {
		for r := range c.Rows() {
			for i := range cells {
				v := tabletest.Cell(c.Column(i), r)
				if at, ok := v.(time.Time); ok {
					v = excelize.Cell{Value: at, StyleID: style}
				}
				cells[i] = v
			}
			n++
			if n > 1_048_576 {
				return nil
			}
			if err := w.SetRow("A"+strconv.Itoa(n), cells); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		if err := w.Flush(); err != nil {
			return err
		}
		return f.Write(io.Discard)
	})
}
