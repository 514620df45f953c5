package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/xuri/excelize/v2"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
)

// measureEncode compares the encoders of exports, by processor time for a row of ten
// columns, with what they replace: encoding/csv, and excelize's stream writer.
func measureEncode(ctx context.Context, b *bench) error {
	rows := 1_000_000
	if b.short {
		rows = 200_000
	}
	formats := []encode.Format{encode.CSV, encode.Parquet, encode.XLSX}
	took, grown := map[encode.Format]float64{}, 0.0
	for _, f := range formats {
		debug.FreeOSMemory()
		before, err := resetPeak()
		if err != nil {
			return err
		}
		w, err := encode.New(io.Discard, tabletest.Plain, encode.Options{Format: f})
		if err != nil {
			return err
		}
		if took[f], err = encodeRows(ctx, rows, w.Write, w.Close); err != nil {
			return err
		}
		after, err := peak()
		if err != nil {
			return err
		}
		if f == encode.XLSX {
			grown = after - before
		}
		b.report.line("%s: %.0f ns of processor time for a row, %.0f MB more memory", f, took[f], after-before)
	}
	write, end := standardCSV()
	standard, err := encodeRows(ctx, rows, write, end)
	if err != nil {
		return err
	}
	excel, err := excelizeRows(ctx, min(rows, 200_000))
	if err != nil {
		return err
	}
	b.report.line("encoding/csv: %.0f ns, excelize: %.0f ns", standard, excel)
	b.report.set("encode_csv", standard/took[encode.CSV])
	b.report.set("encode_parquet", standard/took[encode.Parquet])
	b.report.set("encode_xlsx", excel/took[encode.XLSX])
	b.report.set("encode_xlsx_memory", grown)
	return nil
}

// encodeRows hands rows to a writer, and returns its nanoseconds of processor time for
// each: what making the rows takes is not counted.
func encodeRows(ctx context.Context, rows int, write func(*table.Chunk) error, end func() error) (float64, error) {
	const step = 4096
	c, busy := table.NewChunk(tabletest.Plain), time.Duration(0)
	timed := func(f func() error) error {
		began := processor()
		err := f()
		busy += processor() - began
		return err
	}
	for n := 0; n < rows; n += step {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		tabletest.FillPlain(c, n, min(step, rows-n))
		if err := timed(func() error { return write(c) }); err != nil {
			return 0, err
		}
	}
	err := timed(end)
	return float64(busy.Nanoseconds()) / float64(rows), err
}

// processor is the processor time of this process.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resetPeak makes the peak what this process takes now, and returns that.
func resetPeak() (float64, error) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
		return 0, err
	}
	return peak()
}

// peak returns the most memory, in megabytes, that this process has had since resetPeak.
func peak() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	var kib float64
	_, text, _ := bytes.Cut(status, []byte("VmHWM:"))
	if _, err := fmt.Sscan(string(text[:min(len(text), 40)]), &kib); err != nil {
		return 0, err
	}
	return kib * 1024 / 1e6, nil
}

func standardCSV() (write func(*table.Chunk) error, end func() error) {
	w := csv.NewWriter(io.Discard)
	record := make([]string, len(tabletest.Plain))
	return func(c *table.Chunk) error {
		for r := range c.Rows() {
			for i := range record {
				switch col := c.Column(i); col.Type {
				case table.Int:
					record[i] = strconv.FormatInt(col.Ints[r], 10)
				case table.Float:
					record[i] = strconv.FormatFloat(col.Floats[r], 'f', -1, 64)
				case table.Bool:
					record[i] = strconv.FormatBool(col.Bools[r])
				case table.Time:
					record[i] = time.UnixMicro(col.Ints[r]).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
				default:
					record[i] = string(col.Text(r))
				}
			}
			if err := w.Write(record); err != nil {
				return err
			}
		}
		return nil
	}, func() error { w.Flush(); return w.Error() }
}

func excelizeRows(ctx context.Context, rows int) (float64, error) {
	f := excelize.NewFile()
	defer func() { _ = f.Close() }()
	w, err := f.NewStreamWriter("Sheet1")
	if err != nil {
		return 0, err
	}
	style, err := f.NewStyle(&excelize.Style{NumFmt: 22})
	if err != nil {
		return 0, err
	}
	n, cells := 0, make([]any, len(tabletest.Plain))
	return encodeRows(ctx, rows, func(c *table.Chunk) error {
		for r := range c.Rows() {
			for i := range cells {
				cells[i] = tabletest.Cell(c.Column(i), r)
				if at, is := cells[i].(time.Time); is {
					cells[i] = excelize.Cell{Value: at, StyleID: style}
				}
			}
			n++
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
