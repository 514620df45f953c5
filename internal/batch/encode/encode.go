// Package encode writes tables as files: CSV, JSON Lines, Parquet and Excel
// workbooks, compressed if wanted. Each writer takes the memory of a buffer
// (Parquet: of a row group), whatever the number of rows, and the same rows are
// the same bytes whenever they are written.
package encode

import (
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sluice/internal/batch/encode/csv"
	"sluice/internal/batch/encode/jsonl"
	"sluice/internal/batch/encode/parquet"
	"sluice/internal/batch/encode/xlsx"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Format is a kind of file.
type Format string

// The formats.
const (
	CSV     Format = "csv"
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
	XLSX    Format = "xlsx"
)

// Compression is what is around, or for Parquet inside, a file.
type Compression string

// The compressions. Without one, Parquet's pages are zstd.
const (
	None   Compression = "none"
	Gzip   Compression = "gzip"
	Zstd   Compression = "zstd"
	Snappy Compression = "snappy" // of Parquet's pages only
)

// Options say what file is written. The zero value of each but Format is the
// usual.
type Options struct {
	Format      Format
	Compression Compression
	Zone        *time.Location // of times in CSV, JSONL and XLSX; UTC where nil

	CSV       csv.Options // its Zone is the one above
	SheetRows int         // of XLSX: see xlsx.Options
	About     [][2]string // what a workbook's _manifest sheet and Parquet's metadata say first
}

// Check returns what is wrong with the options, as a fault of kind Invalid.
func (o Options) Check() error {
	switch o.Format {
	case CSV, JSONL:
		if o.Compression != "" && o.Compression != None && o.Compression != Gzip && o.Compression != Zstd {
			return fault.New(fault.Invalid, "%s is compressed with gzip, zstd or none, not %.20q", o.Format, o.Compression).WithCode("option_invalid")
		}
		if o.Format == CSV {
			return o.CSV.Check()
		}
		return nil
	case Parquet:
		return parquet.Options{Compression: string(o.Compression)}.Check()
	case XLSX:
		if o.Compression != "" && o.Compression != None {
			return fault.New(fault.Invalid, "a workbook is compressed already: leave compression out").WithCode("option_invalid")
		}
		return xlsx.Options{SheetRows: o.SheetRows}.Check()
	}
	return fault.New(fault.Invalid, "unknown format %.20q: use csv, jsonl, parquet or xlsx", string(o.Format)).WithCode("format_unknown")
}

// Extension returns what the file's name ends with, such as ".csv.gz".
func (o Options) Extension() string {
	ext := "." + string(o.Format)
	if o.Format == CSV || o.Format == JSONL {
		switch o.Compression {
		case Gzip:
			return ext + ".gz"
		case Zstd:
			return ext + ".zst"
		}
	}
	return ext
}

// MediaType returns the file's media type: of the compressed file, which it
// stays after a download.
func (o Options) MediaType() string {
	switch o.Extension() {
	case ".csv":
		return "text/csv; charset=utf-8; header=present"
	case ".jsonl":
		return "application/jsonl"
	case ".parquet":
		return "application/vnd.apache.parquet"
	case ".xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case ".csv.gz", ".jsonl.gz":
		return "application/gzip"
	default:
		return "application/zstd"
	}
}

// New returns a writer of tables with the schema. Its Close ends the file, and
// leaves out open.
func New(out io.Writer, schema table.Schema, o Options) (table.Writer, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := schema.Check(); err != nil {
		return nil, err
	}
	switch o.Format {
	case Parquet:
		about := make(map[string]string, len(o.About))
		for _, line := range o.About {
			about[line[0]] = line[1]
		}
		return parquet.NewWriter(out, schema, parquet.Options{Compression: string(o.Compression), Metadata: about}), nil
	case XLSX:
		return xlsx.NewWriter(out, schema, xlsx.Options{Zone: o.Zone, SheetRows: o.SheetRows, Manifest: o.About}), nil
	}
	around, err := compress(out, o.Compression)
	if err != nil {
		return nil, err
	}
	w := &compressed{around: around}
	if o.Format == JSONL {
		w.Writer = jsonl.NewWriter(around, schema, o.Zone)
	} else {
		dialect := o.CSV
		dialect.Zone = o.Zone
		w.Writer = csv.NewWriter(around, schema, dialect)
	}
	return w, nil
}

// compress returns a compressor around out, which is one goroutine and so
// writes the same bytes each time.
func compress(out io.Writer, c Compression) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriterLevel(out, gzip.BestSpeed)
	case Zstd:
		return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	}
	return open{out}, nil
}

// open is a writer whose Close does nothing.
type open struct{ io.Writer }

func (open) Close() error { return nil }

// compressed closes the compressor after the writer.
type compressed struct {
	table.Writer
	around io.Closer
}

// Close implements table.Writer.
func (c *compressed) Close() error {
	if err := c.Writer.Close(); err != nil {
		return err
	}
	return c.around.Close()
}
