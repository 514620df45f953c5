package main

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/client/plan"
)

var planColumns = []column{{"NODES", "nodes"}, {"SPARE", "spare"}, {"PER NODE/s", "per_node"}, {"MOST/s", "most"}, {"PEAK/s", "peak"}, {"P50 ms", "p50_ms"}, {"P99 ms", "p99_ms"}, {"AT MOST", "most_p99_ms"},
	{"MEAN BATCH", "batch"}, {"PARALLEL", "parallel"}, {"BUSY", "busy"}}

// plan says how many nodes a model needs.
func (p *program) plan() *cobra.Command {
	var d plan.Demand
	var model string
	cmd := &cobra.Command{
		Use: "plan", Short: "Say how many nodes a model needs for a load",
		Long: "Says how many nodes like the one that answers a model needs, from what that has measured of its runs.\n\n" +
			"MOST is what one node answers within --p99, PEAK where its queue would grow forever. P50 and P99 are those of a node whose threads never wait for a core; " +
			"AT MOST is the 99th percentile where they wait for --slice each, which is what has to be within --p99. What is behind it, and how far it was right: docs/CAPACITY.md.",
		Example: "  sluice plan --model iris --rps 500 --p99 50ms", Args: exactly(0, "nothing but flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.Check(); err != nil {
				return usagef("%w", err)
			}
			if model == "" {
				return usagef("--model is the name of a model")
			}
			var node plan.Node
			if err := p.client.Get(cmd.Context(), "/v1/models/"+url.PathEscape(model)+"/costs", &node); err != nil {
				return err
			}
			made, err := plan.For(node, d)
			if err != nil {
				return err
			}
			b, err := json.Marshal(map[string]any{"model": node.Model, "version": node.Version, "nodes": made.Nodes, "spare": d.Spare, "per_node": round(made.PerNode), "most": round(made.Most),
				"peak": round(made.Peak), "p50_ms": millis(made.P50), "p99_ms": millis(made.P99), "most_p50_ms": millis(made.MostP50), "most_p99_ms": millis(made.MostP99), "batch": round(made.Batch), "parallel": made.Parallel, "busy": round(made.Busy)})
			if err != nil {
				return err
			}
			return p.one(planColumns, b)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&model, "model", "m", "", "name, name:version or name@alias")
	flags.Float64Var(&d.Rate, "rps", 0, "requests per second in all")
	flags.DurationVar(&d.P99, "p99", 0, "time within which 99 of 100 are to be answered")
	flags.IntVar(&d.Rows, "rows", 1, "rows of a request")
	flags.DurationVar(&d.Request, "overhead", 60*time.Microsecond, "CPU time of a request beside its run")
	flags.Float64Var(&d.Others, "others", 0, "share of a node's cores that other work takes, from 0 to below 1")
	flags.DurationVar(&d.Jitter, "jitter", 0, "99th percentile of what answers of an idle node take longer than most")
	flags.DurationVar(&d.Slice, "slice", 3*time.Millisecond, "how long a thread keeps a core that others wait for; 0 for a node with more cores than busy threads")
	flags.IntVar(&d.Spare, "spare", 1, "nodes that may fail")
	for _, name := range []string{"model", "rps", "p99"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func millis(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

// round keeps three digits.
func round(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return v
	}
	return short
}
