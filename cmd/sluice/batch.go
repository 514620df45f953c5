package main

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
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
		of("get", "Show a batch", func(ctx context.Context, path string) error {
			return p.call(ctx, batchColumns, client.Request{Path: path})
		}), of("watch", "Wait for a batch's end, with a bar", func(ctx context.Context, path string) error { return p.watch(ctx, path, "") }))
	for name, short := range map[string]string{"cancel": "Cancel a batch; what is done stays", "pause": "Pause a batch", "resume": "Resume a paused batch",
		"retry": "Run the rows of an ended batch again that have not succeeded"} {
		cmd.AddCommand(of(name, short, func(ctx context.Context, path string) error {
			return p.call(ctx, batchColumns, client.Request{Method: http.MethodPost, Path: path + "/" + name})
		}))
	}
	return cmd
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
		Use: "list", Short: "List batches, the latest first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.latest(cmd.Context(), batchColumns, "/v1/batches", query(map[string]string{"status": status, "model": model}), limit)
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "in_progress, completed, failed, …")
	cmd.Flags().StringVar(&model, "model", "", "of this model")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	return cmd
}

func (p *program) batchResults() *cobra.Command {
	var out, format string
	var errs bool
	cmd := &cobra.Command{
		Use: "results ID", Short: "Download a batch's results, or the errors of its rows", Args: exactly(1, "the id of a batch"),
		Long:    "Downloads the results of a batch: all that there are of one that has ended, and before that those from the first row on that are done.",
		Example: "  sluice batch results batch_… --out results.parquet\n  sluice batch results batch_… --errors",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/batches/" + url.PathEscape(args[0])
			if errs {
				return p.fetch(cmd.Context(), path+"/errors", out)
			}
			if err := known("format", format, resultFormats); err != nil {
				return err
			}
			return p.fetch(cmd.Context(), resultsPath(path, cmp.Or(format, resultFormat(out))), out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file to write; - is the standard output")
	cmd.Flags().StringVar(&format, "format", "", "csv, jsonl, parquet or xlsx, of those that the batch was made with; by the name of --out without it, or the first")
	cmd.Flags().BoolVar(&errs, "errors", false, "the errors instead, in JSON Lines")
	cmd.MarkFlagsMutuallyExclusive("errors", "format")
	complete(cmd, "format", resultFormats)
	return cmd
}

// resultFormats are those that results can have.
var resultFormats = []string{"csv", "jsonl", "parquet", "xlsx"}

// resultFormat is the format of results that a file's name tells; "" where it tells none.
func resultFormat(out string) string {
	if end := strings.TrimPrefix(strings.ToLower(filepath.Ext(out)), "."); slices.Contains(resultFormats, end) {
		return end
	}
	return ""
}

// resultsPath is where a batch's results are in a format; "": the first that it has.
func resultsPath(batch, format string) string {
	if format == "" {
		return batch + "/results"
	}
	return batch + "/results?format=" + url.QueryEscape(format)
}

// batchState is what is watched of a batch.
type batchState struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	RowCounts struct {
		Total, Pending, Failed int64
	} `json:"row_counts"`
	Error   *failure `json:"error"`
	Waiting *failure `json:"waiting"`
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
		return progress{b.RowCounts.Total - b.RowCounts.Pending, b.RowCounts.Total, b.ended(), b.Waiting}, err
	})
	if err != nil {
		return err
	}
	if err := p.one(batchColumns, last); err != nil {
		return err
	}
	if out != "" && b.RowCounts.Total > 0 {
		if err := p.fetch(ctx, resultsPath(path, resultFormat(out)), out); err != nil {
			return err
		}
	}
	return failed("batch", b.ID, b.Status, b.Error)
}
