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
	format, compression, zone, from, to, asOf, out string
	columns, where, sort                           []string
	preview                                        bool
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
	flags.StringVar(&in.out, "out", "", "file to download into; of several files, they are numbered")
	flags.BoolVar(&in.preview, "preview", false, "only show the first rows")
	cmd.AddCommand(p.exportList(), p.exportDatasets(), p.schedules(), &cobra.Command{
		Use: "get ID [FILE]", Short: "Wait for an export, and download it into a file",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("expected the id of an export, and maybe a file")
			}
			return p.watchExport(cmd.Context(), args[0], strings.Join(args[1:], ""))
		},
	})
	return cmd
}

// declare adds the flags that say what is exported, and how.
func (in *exportFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&in.format, "format", "", "csv, jsonl, parquet or xlsx; by the name of --out without it")
	flags.StringVar(&in.compression, "compression", "", "gzip or zstd, around csv and jsonl")
	flags.StringSliceVar(&in.columns, "columns", nil, "which, in this order; all without it")
	flags.StringArrayVar(&in.where, "where", nil, "COLUMN=VALUE, also !=, <, <=, >, >=; repeat for more")
	flags.StringSliceVar(&in.sort, "sort", nil, "columns to sort by, the most significant first; -COLUMN is descending")
	flags.StringVar(&in.zone, "time-zone", "", "in which times are told, such as Europe/Berlin")
	flags.StringVar(&in.from, "from", "", "only from this time on (RFC 3339)")
	flags.StringVar(&in.to, "to", "", "only before this time")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"csv", "jsonl", "parquet", "xlsx"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("compression", cobra.FixedCompletions([]string{"gzip", "zstd"}, cobra.ShellCompDirectiveNoFileComp))
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
	body := map[string]any{"dataset": dataset, "format": format}
	for name, value := range map[string]string{"from": in.from, "to": in.to, "as_of": in.asOf} {
		if value != "" {
			body[name] = value
		}
	}
	if len(in.columns) > 0 {
		body["columns"] = in.columns
	}
	var sorted []map[string]any
	for _, by := range in.sort {
		name, descending := strings.CutPrefix(by, "-")
		sorted = append(sorted, map[string]any{"column": name, "descending": descending})
	}
	if len(sorted) > 0 {
		body["sort"] = sorted
	}
	options := map[string]string{}
	for name, value := range map[string]string{"compression": in.compression, "time_zone": in.zone} {
		if value != "" {
			options[name] = value
		}
	}
	if len(options) > 0 {
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

// condition reads COLUMN=VALUE. A value that is JSON is taken as that, and else as a
// text.
func condition(text string) (map[string]any, error) {
	at := strings.IndexAny(text, "!<>=")
	if at > 0 {
		for _, o := range []struct{ sign, name string }{{"!=", "ne"}, {"<=", "le"}, {">=", "ge"}, {"<", "lt"}, {">", "gt"}, {"=", "eq"}} {
			if value, ok := strings.CutPrefix(text[at:], o.sign); ok {
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
	cmd := &cobra.Command{Use: "list", Short: "List exports", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.table(exportColumns, p.client.All(cmd.Context(), "/v1/exports", limit))
		}}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	return cmd
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
}

// watchExport waits for the end of an export, and downloads its files.
func (p *program) watchExport(ctx context.Context, id, out string) error {
	var e exportState
	last, err := p.poll(ctx, "/v1/exports/"+url.PathEscape(id), "export get", func(body json.RawMessage) (progress, error) {
		e = exportState{}
		err := decode(body, &e)
		return progress{e.Progress.Scanned, e.Progress.Total, e.Status != "queued" && e.Status != "running"}, err
	})
	if err == nil {
		err = p.table(exportColumns, each([]json.RawMessage{last}))
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
