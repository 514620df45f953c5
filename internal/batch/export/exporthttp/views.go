package exporthttp

import (
	"bytes"
	"encoding/json"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/encode/jsonl"
	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/platform/web/api"
)

// NewExport is what asks for an export.
type NewExport struct {
	Name    string    `json:"name,omitempty" maxLength:"255" doc:"A name of the client's own."`
	Dataset string    `json:"dataset" maxLength:"64" doc:"What is exported: see /v1/export-datasets."`
	Columns []string  `json:"columns,omitempty" maxItems:"1000" doc:"In this order; all where left out."`
	Filters []Filter  `json:"filters,omitempty" maxItems:"32" doc:"Only rows that satisfy all of them."`
	From    *api.Time `json:"from,omitempty" doc:"Only rows with a time from here on."`
	To      *api.Time `json:"to,omitempty" doc:"Only rows with a time before."`
	AsOf    *api.Time `json:"as_of,omitempty" doc:"Only what was there then; now where left out."`
	Sort    []Sort    `json:"sort,omitempty" maxItems:"8" doc:"Columns of those that are exported, the most significant first; nulls are last. As the dataset has the rows where left out."`
	Format  string    `json:"format" enum:"csv,jsonl,parquet,xlsx"`
	Options Options   `json:"options,omitempty"`
}

// Filter is a condition on a column.
type Filter struct {
	Column string          `json:"column" maxLength:"255"`
	Op     string          `json:"op" enum:"eq,ne,lt,le,gt,ge,is_null,not_null"`
	Value  json.RawMessage `json:"value,omitempty" doc:"Of the column's type; times as RFC 3339."`
}

// Sort is a column to sort by.
type Sort struct {
	Column     string `json:"column" maxLength:"255"`
	Descending bool   `json:"descending,omitempty"`
}

// Options say how the files are written.
type Options struct {
	Compression  string `json:"compression,omitempty" enum:"none,gzip,zstd,snappy" doc:"Around CSV and JSONL: gzip or zstd; inside Parquet, where zstd is the default: also snappy."`
	TimeZone     string `json:"time_zone,omitempty" maxLength:"64" doc:"In which times are told, such as Europe/Berlin; UTC where left out. Parquet has instants."`
	BOM          bool   `json:"bom,omitempty" doc:"CSV begins with a byte order mark, which Excel needs to read it as UTF-8."`
	Delimiter    string `json:"delimiter,omitempty" maxLength:"2" doc:"Of CSV: a comma, ;, | or a tab."`
	Decimal      string `json:"decimal,omitempty" maxLength:"1" doc:"Of floats in CSV: a point or a comma."`
	Null         string `json:"null,omitempty" maxLength:"16" doc:"What stands for null in CSV; nothing where left out, which differs from an empty text, which is in quotes."`
	FormulaGuard *bool  `json:"formula_guard,omitempty" doc:"Texts in CSV that a spreadsheet would take for a formula get an apostrophe in front; true where left out."`
	SheetRows    int    `json:"sheet_rows,omitempty" minimum:"0" maximum:"1048575" doc:"Rows of a workbook's sheet after which the next begins; as many as a sheet can have where left out."`
}

// Export is what is shown of one.
type Export struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Name        string       `json:"name,omitempty"`
	Schedule    string       `json:"schedule,omitempty" doc:"The schedule that it was made for."`
	Status      string       `json:"status" enum:"queued,running,completed,failed,cancelled,expired"`
	Request     NewExport    `json:"request"`
	Progress    Progress     `json:"progress"`
	Rows        *int64       `json:"rows,omitempty" doc:"Of all files, once it is complete."`
	SHA256      string       `json:"sha256,omitempty" doc:"Of its only file."`
	Parts       []Part       `json:"parts,omitempty"`
	Error       *ExportError `json:"error,omitempty"`
	Waiting     *Waiting     `json:"waiting,omitempty" doc:"What it waits for, such as room on a disk; it goes on by itself."`
	CreatedAt   api.Time     `json:"created_at"`
	StartedAt   *api.Time    `json:"started_at,omitempty"`
	CompletedAt *api.Time    `json:"completed_at,omitempty"`
	ExpiresAt   *api.Time    `json:"expires_at,omitempty" doc:"When its files are no more to be had."`
	URLs        ExportURLs   `json:"urls"`
}

// Progress is how far it is.
type Progress struct {
	Percent     float64 `json:"percent"`
	RowsScanned int64   `json:"rows_scanned"`
	RowsWritten int64   `json:"rows_written"`
	RowsTotal   *int64  `json:"rows_total,omitempty" doc:"What the store had at the beginning."`
	Bytes       int64   `json:"bytes"`
}

// Part is a file.
type Part struct {
	URL    string `json:"url"`
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ExportError is why an export failed.
type ExportError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Waiting is why an export has to wait.
type Waiting struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Since   api.Time `json:"since"`
}

// ExportURLs are what can be done with an export.
type ExportURLs struct {
	Self     string `json:"self"`
	Content  string `json:"content"`
	Manifest string `json:"manifest"`
	Cancel   string `json:"cancel"`
}

// Manifest says what files an export has, and of what.
type Manifest struct {
	Export  string         `json:"export"`
	Request NewExport      `json:"request"`
	Scanned int64          `json:"rows_scanned"`
	Rows    int64          `json:"rows"`
	Parts   []ManifestPart `json:"parts"`
}

// ManifestPart is a file of it.
type ManifestPart struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Dataset is something that can be exported.
type Dataset struct {
	Name       string   `json:"name"`
	Object     string   `json:"object"`
	About      string   `json:"about"`
	Permission string   `json:"permission" doc:"What it takes to export it, beside exports:write."`
	Time       string   `json:"time" doc:"The column that from and to select by."`
	Columns    []Column `json:"columns"`
}

// Column is one of a table.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type" enum:"string,json,int,float,float32,bool,time"`
}

// Preview is the first rows that an export would have.
type Preview struct {
	Object  string            `json:"object"`
	Columns []Column          `json:"columns"`
	Rows    []json.RawMessage `json:"rows" doc:"At most 100, as JSONL would have them."`
	More    bool              `json:"more" doc:"There are, or may be, more."`
}

func columnsOf(s table.Schema) []Column {
	columns := make([]Column, len(s))
	for i, f := range s {
		columns[i] = Column{f.Name, f.Type.String()}
	}
	return columns
}

// rowsOf returns each row as a JSON object.
func rowsOf(c *table.Chunk) ([]json.RawMessage, error) {
	var lines bytes.Buffer
	w := jsonl.NewWriter(&lines, c.Schema(), nil)
	if err := w.Write(c); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	rows := make([]json.RawMessage, 0, c.Rows())
	for line := range bytes.Lines(lines.Bytes()) {
		rows = append(rows, bytes.TrimSuffix(line, []byte("\n")))
	}
	return rows, nil
}

// request is what the service is asked for.
func (n *NewExport) request() export.Request {
	o := n.Options
	r := export.Request{Dataset: n.Dataset, Columns: n.Columns, Format: encode.Format(n.Format), Options: export.Options{
		Compression: encode.Compression(o.Compression), TimeZone: o.TimeZone, BOM: o.BOM, Delimiter: o.Delimiter, Decimal: o.Decimal, Null: o.Null,
		RawFormulas: o.FormulaGuard != nil && !*o.FormulaGuard, SheetRows: o.SheetRows,
	}}
	for _, t := range []struct {
		from *api.Time
		to   *time.Time
	}{{n.From, &r.From}, {n.To, &r.To}, {n.AsOf, &r.AsOf}} {
		if t.from != nil {
			*t.to = t.from.Time
		}
	}
	for _, by := range n.Sort {
		r.Sort = append(r.Sort, export.Sort(by))
	}
	for _, f := range n.Filters {
		r.Filters = append(r.Filters, export.Filter(f))
	}
	return r
}

// requested shows a request.
func requested(r *export.Request) NewExport {
	o := r.Options
	n := NewExport{Dataset: r.Dataset, Columns: r.Columns, Format: string(r.Format), Options: Options{
		Compression: string(o.Compression), TimeZone: o.TimeZone, BOM: o.BOM, Delimiter: o.Delimiter, Decimal: o.Decimal, Null: o.Null, SheetRows: o.SheetRows,
	}, From: some(r.From), To: some(r.To), AsOf: some(r.AsOf)}
	if o.RawFormulas {
		n.Options.FormulaGuard = new(bool)
	}
	for _, by := range r.Sort {
		n.Sort = append(n.Sort, Sort(by))
	}
	for _, f := range r.Filters {
		n.Filters = append(n.Filters, Filter(f))
	}
	return n
}

// some is nil for the zero time.
func some(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

func (e *edge) view(x *export.Export, now time.Time) Export {
	self := e.prefix + "/exports/" + string(x.ID)
	p := x.Progress
	v := Export{ID: string(x.ID), Object: "export", Name: x.Name, Schedule: x.Schedule, Status: string(x.Now(now)), Request: requested(&x.Request),
		Progress:  Progress{Percent: p.Percent(), RowsScanned: p.Scanned, RowsWritten: p.Rows, Bytes: p.Bytes},
		CreatedAt: api.Time{Time: x.CreatedAt}, StartedAt: some(x.StartedAt), CompletedAt: some(x.CompletedAt),
		URLs: ExportURLs{self, self + "/content", self + "/manifest", self + "/cancel"}}
	if p.Total >= 0 {
		v.Progress.RowsTotal = &p.Total
	}
	if f := x.Failure; f != nil {
		v.Error = &ExportError{f.Code, f.Message}
	}
	if w := x.Waits; w != nil && x.Status == export.Queued {
		v.Waiting = &Waiting{w.Code, w.Message, api.Time{Time: w.Since}}
	}
	if x.Status != export.Completed {
		return v
	}
	v.Progress.Percent, v.Rows, v.ExpiresAt = 100, &p.Rows, some(x.Due)
	for i, part := range x.Parts {
		v.Parts = append(v.Parts, Part{partURL(v.URLs.Content, i, len(x.Parts)), part.Name, part.Rows, part.Bytes, part.SHA256})
	}
	if len(v.Parts) == 1 {
		v.SHA256 = v.Parts[0].SHA256
	}
	return v
}
