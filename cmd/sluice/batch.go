package main

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

// batchColumns are what a table of batches shows.
var batchColumns = []column{{"ID", "id"}, {"STATUS", "status"}, {"MODEL", "model"}, {"VERSION", "version"}, {"ROWS", "row_counts.total"}, {"SUCCEEDED", "row_counts.succeeded"},
	{"FAILED", "row_counts.failed"}, {"PERCENT", "progress.percent"}, {"CREATED", "created_at"}, {"ERROR", "error.code"}}

func (p *program) batch() *cobra.Command {
	cmd := &cobra.Command{Use: "batch", Short: "Have models answer files of rows"}
	of := func(name, short string, run func(ctx context.Context, path string) error) *cobra.Command {
		return &cobra.Command{Use: name + " ID", Short: short, Args: exactly(1, "the id of a batch"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return run(cmd.Context(), "/v1/batches/"+url.PathEscape(args[0]))
			}}
	}
	cmd.AddCommand(p.batchSubmit(), p.batchList(), p.batchResults(),
		of("get", "Show a batch", p.batchShow), of("watch", "Wait for a batch's end, with a bar", func(ctx context.Context, path string) error { return p.watch(ctx, path, "") }))
	for name, short := range map[string]string{"cancel": "Cancel a batch; what is done stays", "pause": "Pause a batch", "resume": "Resume a paused batch",
		"retry": "Run the rows of an ended batch again that have not succeeded"} {
		cmd.AddCommand(of(name, short, func(ctx context.Context, path string) error {
			a, err := p.client.Call(ctx, client.Request{Method: http.MethodPost, Path: path + "/" + name})
			if err != nil {
				return err
			}
			return p.table(batchColumns, each([]json.RawMessage{a.Body}))
		}))
	}
	return cmd
}

// batchFlags are what a batch is made of.
type batchFlags struct {
	model, format, sheet, rowID, output, onError, out string
	include, columns                                  []string
	ratio                                             float64
	watch                                             bool
}

func (p *program) batchSubmit() *cobra.Command {
	var in batchFlags
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Upload a file of rows and have a model answer them", Args: exactly(1, "a file"),
		Example: "  sluice batch submit rows.csv --model iris --watch --out results.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := in.body(args[0])
			if err != nil {
				return err
			}
			u, err := p.send(cmd.Context(), args[0], "", "")
			if err != nil {
				return err
			}
			body["input"] = map[string]string{"upload_id": u.ID}
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodPost, Path: "/v1/batches", Body: body})
			if err != nil {
				return err
			}
			var made struct{ ID string }
			if err := a.Decode(&made); err != nil {
				return err
			}
			if !in.watch && in.out == "" {
				return p.table(batchColumns, each([]json.RawMessage{a.Body}))
			}
			return p.watch(cmd.Context(), "/v1/batches/"+url.PathEscape(made.ID), in.out)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&in.model, "model", "m", "", "name, name:version or name@alias")
	flags.StringVar(&in.format, "format", "", "of the file; by its name, or by what is in it, without it")
	flags.StringVar(&in.sheet, "sheet", "", "of a workbook, where several have rows")
	flags.StringVar(&in.rowID, "row-id", "", "the column with the rows' own names")
	flags.StringArrayVar(&in.columns, "columns", nil, "INPUT=COLUMN,COLUMN,…: which columns make an input; repeat for more")
	flags.StringSliceVar(&in.include, "include", nil, "columns of the file that come along in the results")
	flags.StringVar(&in.output, "results", "", "format of the results: jsonl (without it), csv, parquet or xlsx")
	flags.StringVar(&in.onError, "on-row-error", "", "continue or stop")
	flags.Float64Var(&in.ratio, "max-error-ratio", 1, "the share of the rows that may fail before the batch does")
	flags.BoolVarP(&in.watch, "watch", "w", false, "wait for its end, with a bar")
	flags.StringVar(&in.out, "out", "", "wait for its end, and download the results to this file")
	_ = cmd.MarkFlagRequired("model")
	return cmd
}

// body is the request for a batch, without its file.
func (in *batchFlags) body(file string) (map[string]any, error) {
	body := map[string]any{"model": in.model}
	for name, value := range map[string]string{"format": cmp.Or(in.format, formatOf(file)), "sheet": in.sheet, "row_id": in.rowID, "on_row_error": in.onError} {
		if value != "" {
			body[name] = value
		}
	}
	if in.ratio != 1 {
		body["max_error_ratio"] = in.ratio
	}
	columns := map[string][]string{}
	for _, c := range in.columns {
		input, list, ok := strings.Cut(c, "=")
		if !ok || input == "" || list == "" {
			return nil, usagef("--columns is INPUT=COLUMN,COLUMN,…, got %q", c)
		}
		columns[input] = strings.Split(list, ",")
	}
	if len(columns) > 0 {
		body["columns"] = columns
	}
	output := map[string]any{}
	if in.output != "" {
		output["format"] = in.output
	}
	if len(in.include) > 0 {
		output["include_input"] = in.include
	}
	if len(output) > 0 {
		body["output"] = output
	}
	return body, nil
}

// formatOf guesses the format of a file by its name, without what it is compressed
// with; "" where that does not tell.
func formatOf(name string) string {
	name = strings.ToLower(filepath.Base(name))
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	switch filepath.Ext(name) {
	case ".csv", ".tsv", ".txt":
		return "csv"
	case ".jsonl", ".ndjson":
		return "jsonl"
	case ".parquet", ".arrow", ".xlsx":
		return strings.TrimPrefix(filepath.Ext(name), ".")
	}
	return ""
}

func (p *program) batchList() *cobra.Command {
	var status, model string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List batches", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := with(with("/v1/batches?", "status", status), "model", model)
			return p.table(batchColumns, p.client.All(cmd.Context(), path, limit))
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "in_progress, completed, failed, …")
	cmd.Flags().StringVar(&model, "model", "", "of this model")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	return cmd
}

// with adds a parameter to a path, unless its value is empty.
func with(path, name, value string) string {
	if value == "" {
		return path
	}
	return path + "&" + name + "=" + url.QueryEscape(value)
}

func (p *program) batchShow(ctx context.Context, path string) error {
	a, err := p.client.Call(ctx, client.Request{Path: path})
	if err != nil {
		return err
	}
	return p.table(batchColumns, each([]json.RawMessage{a.Body}))
}

func (p *program) batchResults() *cobra.Command {
	var out string
	var errs bool
	cmd := &cobra.Command{
		Use: "results ID", Short: "Download a batch's results, or the errors of its rows", Args: exactly(1, "the id of a batch"),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "/results"
			if errs {
				what = "/errors"
			}
			return p.fetch(cmd.Context(), "/v1/batches/"+url.PathEscape(args[0])+what, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file to write; - is the standard output")
	cmd.Flags().BoolVar(&errs, "errors", false, "the errors instead")
	return cmd
}

// batchState is what is watched of a batch.
type batchState struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	RowCounts struct {
		Total, Pending, Failed int64
	} `json:"row_counts"`
	Error *failure `json:"error"`
}

// ended reports whether nothing more happens by itself.
func (b *batchState) ended() bool {
	switch b.Status {
	case "completed", "failed", "cancelled", "expired", "paused":
		return true
	}
	return false
}

// watch waits for the end of a batch, downloads its results if it shall, and fails
// where the batch has.
func (p *program) watch(ctx context.Context, path, out string) error {
	var b batchState
	last, err := p.poll(ctx, path, "batch watch", func(body json.RawMessage) (progress, error) {
		b = batchState{}
		err := decode(body, &b)
		return progress{b.RowCounts.Total - b.RowCounts.Pending, b.RowCounts.Total, b.ended()}, err
	})
	if err != nil {
		return err
	}
	if err := p.table(batchColumns, each([]json.RawMessage{last})); err != nil {
		return err
	}
	if out != "" && b.RowCounts.Total > 0 {
		if err := p.fetch(ctx, path+"/results", out); err != nil {
			return err
		}
	}
	return failed("batch", b.ID, b.Status, b.Error)
}
