package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

var (
	evaluationColumns = []column{{"ID", "id"}, {"STATUS", "status"}, {"MODEL", "model"}, {"CANDIDATE", "candidate.version"}, {"ROWS", "result.rows"}, {"FLIPS", "result.flips"}, {"FLIP RATE", "result.flip_rate"},
		{"LOW", "result.low"}, {"HIGH", "result.high"}, {"ERRORS", "result.errors"}, {"LATENCY", "result.latency_ratio"}, {"CREATED", "created_at"}, {"ERROR", "error.code"}}
	segmentColumns = []column{{"BY", "by"}, {"SEGMENT", "value"}, {"ROWS", "rows"}, {"FLIPS", "flips"}, {"FLIP RATE", "flip_rate"}, {"LOW", "low"}, {"HIGH", "high"}}
)

// evaluations are the commands about what versions are asked again.
func (p *program) evaluations() []*cobra.Command {
	var limit int
	list := &cobra.Command{Use: "evaluations", Short: "List evaluations, the latest first, or get one", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.latest(cmd.Context(), evaluationColumns, "/v1/evaluations", url.Values{}, limit)
		}}
	list.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	list.AddCommand(getInto("an evaluation", "Wait for an evaluation, show its segments, and download the rows that differ into a file", p.watchEvaluation))
	return []*cobra.Command{p.evaluate(), list}
}

func (p *program) evaluate() *cobra.Command {
	var (
		candidate, baseline, from, to, arm, maxTime, out string
		hours                                            int
		sample                                           float64
		maxRows                                          int64
		by                                               []string
		values                                           bool
	)
	cmd := &cobra.Command{
		Use: "evaluate MODEL", Short: "Have a version answer again what the log has, and see how its answers differ", Args: exactly(1, "the name of a model"),
		Long:    "Has a version answer again what was asked before, waits for the end, and shows how many rows have another answer. Nothing is routed to it.",
		Example: "  sluice models evaluate iris --candidate 3 --hours 24 --segment-by arm,out/scores --out diff.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if candidate == "" {
				return usagef("--candidate is needed: the number of a version, or an alias")
			}
			if err := writable(out); err != nil {
				return err
			}
			source := object{}
			source.set("from", from)
			source.set("to", to)
			source.set("arm", arm)
			if from == "" {
				source["hours"] = hours
			}
			if cmd.Flags().Changed("sample") {
				source["sample"] = sample
			}
			body := object{"candidate": candidate, "baseline": baseline, "source": source}
			body.list("segment_by", by)
			body.set("max_time", maxTime)
			if maxRows > 0 {
				body["max_rows"] = maxRows
			}
			if values {
				body["compare"] = map[string]any{"values": true}
			}
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodPost, Path: "/v1/models/" + url.PathEscape(args[0]) + "/evaluations", Body: body})
			if err != nil {
				return err
			}
			var made struct{ ID string }
			if err := a.Decode(&made); err != nil {
				return err
			}
			return p.watchEvaluation(cmd.Context(), made.ID, out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&candidate, "candidate", "", "the version that is asked: its number, or an alias")
	flags.StringVar(&baseline, "baseline", "logged", "what its answers are compared with: logged, or a version")
	flags.IntVar(&hours, "hours", 24, "the last so many, without --from")
	flags.StringVar(&from, "from", "", "only from this time on (RFC 3339)")
	flags.StringVar(&to, "to", "", "only before this time")
	flags.StringVar(&arm, "arm", "", "only what was given to this arm")
	flags.Float64Var(&sample, "sample", 1, "the share of the predictions that is asked")
	flags.StringSliceVar(&by, "segment-by", nil, "what rows are told apart by: version, arm, experiment, in/INPUT, out/OUTPUT")
	flags.Int64Var(&maxRows, "max-rows", 0, "after so many rows it ends; 100000 without it")
	flags.StringVar(&maxTime, "max-time", "", "after which it fails, such as 10m; 1h without it")
	flags.BoolVar(&values, "values", false, "every element has to agree, and not only the class")
	flags.StringVar(&out, "out", "", "file to download the rows that differ into: as CSV where its name ends so, else as JSON Lines")
	return cmd
}

// watchEvaluation waits for the end of an evaluation, and downloads the rows that differ.
func (p *program) watchEvaluation(ctx context.Context, id, out string) error {
	var e struct {
		ID, Status string
		MaxRows    int64 `json:"max_rows"`
		Progress   struct{ Cases int64 }
		Result     struct {
			Segments []struct {
				By     string
				Values []map[string]any
			}
		}
		Diff  *struct{ URL string }
		Error *failure
	}
	last, err := p.poll(ctx, "/v1/evaluations/"+url.PathEscape(id), "models evaluations get", func(body json.RawMessage) (progress, error) {
		err := decode(body, &e)
		return progress{e.Progress.Cases, 0, e.Status != "queued" && e.Status != "running", nil}, err
	})
	if err == nil {
		err = p.one(evaluationColumns, last)
	}
	if err != nil {
		return err
	}
	if p.output != "json" { // which has them already
		var rows []json.RawMessage
		for _, s := range e.Result.Segments {
			for _, v := range s.Values {
				v["by"] = s.By
				row, err := json.Marshal(v)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
		}
		if err := p.table(segmentColumns, each(rows)); err != nil {
			return err
		}
	}
	if err := failed("evaluation", e.ID, e.Status, e.Error); err != nil || out == "" || e.Diff == nil {
		return err
	}
	if strings.HasSuffix(out, ".csv") {
		e.Diff.URL += "?format=csv"
	}
	return p.fetch(ctx, e.Diff.URL, out)
}
