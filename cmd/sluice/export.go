package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

var exportColumns = []column{{"ID", "id"}, {"STATUS", "status"}, {"DATASET", "request.dataset"}, {"FORMAT", "request.format"}, {"ROWS", "rows"}, {"PERCENT", "progress.percent"},
	{"CREATED", "created_at"}, {"ERROR", "error.code"}}

// exportFlags are what an export is made of.
type exportFlags struct {
	format, compression, zone, from, to, asOf, name, out string
	delimiter, decimal, null                             string // of CSV
	columns, where, sort                                 []string
	preview, bom, guard                                  bool
	sheetRows                                            int
}

func (p *program) export() *cobra.Command {
	var in exportFlags
	cmd := &cobra.Command{
		Use: "export DATASET", Short: "Export a dataset to a file: usage, jobs, audit entries, …", Args: exactly(1, "the name of a dataset; sluice export datasets lists them"),
		Long:    "Exports a dataset, waits for the end, and downloads what there is into --out. The server checks that it is complete, this program that it is what the server wrote.",
		Example: "  sluice export usage --format xlsx --out usage.xlsx\n  sluice export jobs --where model=iris --from 2026-01-01T00:00:00Z --sort=-created_at --format csv --out jobs.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := in.body(args[0])
			if err != nil {
				return err
			}
			if in.preview {
				return p.previewExport(cmd.Context(), body)
			}
			if err := writable(in.out); err != nil {
				return err
			}
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodPost, Path: "/v1/exports", Body: body})
			if err != nil {
				return err
			}
			var made struct{ ID string }
			if err := a.Decode(&made); err != nil {
				return err
			}
			return p.watchExport(cmd.Context(), made.ID, in.out)
		},
	}
	in.declare(cmd)
	flags := cmd.Flags()
	flags.StringVar(&in.asOf, "as-of", "", "what was there at this time")
	flags.StringVar(&in.name, "name", "", "a name of your own")
	flags.StringVar(&in.out, "out", "", "file to download into; of several files, they are numbered")
	flags.BoolVar(&in.preview, "preview", false, "only show the first rows")
	cmd.AddCommand(p.exportList(), p.exportDatasets(), p.schedules(), p.exportEnd("cancel", "Cancel an export", http.MethodPost, "/cancel"),
		p.exportEnd("delete", "Delete an export and its files", http.MethodDelete, ""),
		getInto("an export", "Wait for an export, and download it into a file", p.watchExport))
	return cmd
}

// declare adds the flags that say what is exported, and how.
func (in *exportFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&in.format, "format", "", "csv, jsonl, parquet or xlsx; by the name of --out without it")
	flags.StringVar(&in.compression, "compression", "", "gzip, zstd or none, around csv and jsonl; inside parquet, which has zstd without it, also snappy")
	flags.StringSliceVar(&in.columns, "columns", nil, "which, in this order; all without it")
	flags.StringArrayVar(&in.where, "where", nil, "COLUMN=VALUE, also !=, <, <=, >, >=; COLUMN=null and COLUMN!=null ask for nulls; repeat for more")
	flags.StringSliceVar(&in.sort, "sort", nil, "columns to sort by, the most significant first; -COLUMN is descending")
	flags.StringVar(&in.zone, "time-zone", "", "in which times are told, such as Europe/Berlin")
	flags.StringVar(&in.from, "from", "", "only from this time on (RFC 3339)")
	flags.StringVar(&in.to, "to", "", "only before this time")
	flags.BoolVar(&in.bom, "bom", false, "a CSV file begins with a byte order mark, which Excel needs to read it as UTF-8")
	flags.StringVar(&in.delimiter, "delimiter", "", `between the cells of a CSV file: , ; | or \t; a comma without it`)
	flags.StringVar(&in.decimal, "decimal", "", "the decimal sign of floats in a CSV file: . (without it) or a comma")
	flags.StringVar(&in.null, "null", "", "what stands for null in a CSV file; nothing without it")
	flags.BoolVar(&in.guard, "formula-guard", true, "texts in a CSV file that a spreadsheet would take for a formula get an apostrophe in front")
	flags.IntVar(&in.sheetRows, "sheet-rows", 0, "rows of a workbook's sheet after which the next begins; as many as a sheet can have without it")
	complete(cmd, "format", resultFormats)
	complete(cmd, "compression", []string{"none", "gzip", "zstd", "snappy"})
	complete(cmd, "delimiter", []string{",", ";", "|", `\t`})
	complete(cmd, "decimal", decimals)
}

// body is the request for an export.
func (in *exportFlags) body(dataset string) (map[string]any, error) {
	format := in.format
	if format == "" {
		if format = formatOf(in.out); format == "" && in.preview {
			format = "jsonl"
		}
	}
	if format == "" {
		return nil, usagef("--format is needed: the name of --out does not tell it")
	}
	body := object{"dataset": dataset, "format": format}
	body.set("name", in.name)
	body.set("from", in.from)
	body.set("to", in.to)
	body.set("as_of", in.asOf)
	body.list("columns", in.columns)
	var sorted []map[string]any
	for _, by := range in.sort {
		name, descending := strings.CutPrefix(by, "-")
		sorted = append(sorted, map[string]any{"column": name, "descending": descending})
	}
	if len(sorted) > 0 {
		body["sort"] = sorted
	}
	if options := in.options(); len(options) > 0 {
		body["options"] = options
	}
	var filters []map[string]any
	for _, w := range in.where {
		f, err := condition(w)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	if len(filters) > 0 {
		body["filters"] = filters
	}
	return body, nil
}

// options say how the files are written.
func (in *exportFlags) options() object {
	o := object{}
	o.set("compression", in.compression)
	o.set("time_zone", in.zone)
	o.set("delimiter", in.delimiter)
	o.set("decimal", in.decimal)
	o.set("null", in.null)
	if in.bom {
		o["bom"] = true
	}
	if !in.guard {
		o["formula_guard"] = false
	}
	if in.sheetRows != 0 {
		o["sheet_rows"] = in.sheetRows
	}
	return o
}

// condition reads COLUMN=VALUE. A value that is JSON is taken as that, and else as a
// text.
func condition(text string) (map[string]any, error) {
	at := strings.IndexAny(text, "!<>=")
	if at > 0 {
		for _, o := range []struct{ sign, name string }{{"!=", "ne"}, {"<=", "le"}, {">=", "ge"}, {"<", "lt"}, {">", "gt"}, {"=", "eq"}} {
			if value, ok := strings.CutPrefix(text[at:], o.sign); ok {
				if null := map[string]string{"eq": "is_null", "ne": "not_null"}[o.name]; null != "" && value == "null" {
					return map[string]any{"column": text[:at], "op": null}, nil
				}
				if json.Valid([]byte(value)) {
					return map[string]any{"column": text[:at], "op": o.name, "value": json.RawMessage(value)}, nil
				}
				return map[string]any{"column": text[:at], "op": o.name, "value": value}, nil
			}
		}
	}
	return nil, usagef("--where is COLUMN=VALUE, or with !=, <, <=, > or >=, got %q", text)
}

func (p *program) exportList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List exports, the latest first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.latest(cmd.Context(), exportColumns, "/v1/exports", url.Values{}, limit)
		}}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	return cmd
}

// exportEnd is a command that ends an export.
func (p *program) exportEnd(name, short, method, path string) *cobra.Command {
	return &cobra.Command{Use: name + " ID", Short: short, Args: exactly(1, "the id of an export"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.call(cmd.Context(), exportColumns, client.Request{Method: method, Path: "/v1/exports/" + url.PathEscape(args[0]) + path})
		}}
}

func (p *program) exportDatasets() *cobra.Command {
	return &cobra.Command{Use: "datasets", Short: "List what can be exported", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.table([]column{{"NAME", "name"}, {"ABOUT", "about"}, {"TIME", "time"}, {"PERMISSION", "permission"}}, p.client.All(cmd.Context(), "/v1/export-datasets", 0))
		}}
}

// previewExport shows the first rows.
func (p *program) previewExport(ctx context.Context, body map[string]any) error {
	a, err := p.client.Call(ctx, client.Request{Method: http.MethodPost, Path: "/v1/exports/preview", Body: body})
	if err != nil {
		return err
	}
	var made struct {
		Columns []struct{ Name string }
		Rows    []json.RawMessage
	}
	if err := a.Decode(&made); err != nil {
		return err
	}
	columns := make([]column, len(made.Columns))
	for i, c := range made.Columns {
		columns[i] = column{c.Name, c.Name}
	}
	return p.table(columns, each(made.Rows))
}

// exportState is what is watched of an export.
type exportState struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Progress struct {
		Scanned int64 `json:"rows_scanned"`
		Total   int64 `json:"rows_total"`
	} `json:"progress"`
	Parts []struct{ URL string } `json:"parts"`
	Error *failure               `json:"error"`
	Waits *failure               `json:"waiting"`
}

// watchExport waits for the end of an export, and downloads its files.
func (p *program) watchExport(ctx context.Context, id, out string) error {
	var e exportState
	last, err := p.poll(ctx, "/v1/exports/"+url.PathEscape(id), "export get", func(body json.RawMessage) (progress, error) {
		e = exportState{}
		err := decode(body, &e)
		return progress{e.Progress.Scanned, e.Progress.Total, e.Status != "queued" && e.Status != "running", e.Waits}, err
	})
	if err == nil {
		err = p.one(exportColumns, last)
	}
	if err == nil {
		err = failed("export", e.ID, e.Status, e.Error)
	}
	if err != nil || out == "" {
		return err
	}
	for i, part := range e.Parts {
		if err := p.fetch(ctx, part.URL, numbered(out, i, len(e.Parts))); err != nil {
			return err
		}
	}
	return nil
}

// numbered is the name of one of several files: out.csv is out-1.csv.
func numbered(out string, i, of int) string {
	if of == 1 || out == os.DevNull || out == "-" {
		return out
	}
	end := filepath.Ext(out)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(out, end), i+1, end)
}
