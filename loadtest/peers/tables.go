package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/machine"
)

// tables writes what was measured: a table for each model, encoding and number of
// connections, the fastest first, and what that means for the goals.
func (b *bed) tables(took time.Duration, others float64) string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s; %s, %s. %d round(s) of %.1f s for each figure, after %.1f s to warm up, in turns; %.0f minutes in all", machine.Describe(), runtime.Version(),
		b.models.Runtime(), b.rounds, b.span.Seconds(), b.warm.Seconds(), took.Minutes())
	// The peers' own children cannot be told from strangers, so this is an upper bound.
	fmt.Fprintf(&t, ", up to %.0f %% of the cores taken by what is neither the generator nor Sluice.\n", 100*others)
	for _, c := range cells() {
		b.table(&t, c)
	}
	b.goals(&t)
	b.overloadTable(&t)
	for _, why := range b.left {
		first, _, _ := strings.Cut(why, "\n")
		fmt.Fprintf(&t, "\nLeft out: %s\n", first)
	}
	return t.String()
}

// row is an entry's figures in one table.
type row struct {
	entry
	*seen
}

func (b *bed) rows(c cell) []row {
	var rows []row
	for e, seen := range b.results {
		if s := seen[c]; s != nil {
			rows = append(rows, row{e, s})
		}
	}
	slices.SortFunc(rows, func(x, y row) int { return cmp.Compare(median(y.rates), median(x.rates)) })
	return rows
}

func (b *bed) table(t *strings.Builder, c cell) {
	fmt.Fprintf(t, "\n**%s, %s, %s**\n\n| | | requests/s (spread) | p50 ms | p99 ms (spread) | |\n|---|---|---|---|---|---|\n", c.model, encoding(c.encoding), connections(c.connections))
	for _, r := range b.rows(c) {
		note := ""
		if r.failed+r.refused > 0 {
			note = fmt.Sprintf("%d failed, %d refused", r.failed, r.refused)
		}
		fmt.Fprintf(t, "| %s | %s | %s | %s | %s | %s |\n", r.name(), r.batched, spread(r.rates), number(median(r.p50)), spread(r.p99), note)
	}
}

// goals compares Sluice with the best Python peer, and with Triton, at each thing.
func (b *bed) goals(t *strings.Builder) {
	t.WriteString("\n**Sluice beside the best peer** (of each column the best; × as fast, share of the latency)\n\n| | requests/s | p50 | p99 |\n|---|---|---|---|\n")
	for _, c := range cells() {
		var rates, p50, p99 []float64
		var own *seen
		for _, r := range b.rows(c) {
			switch {
			case r.sluice:
				own = r.seen
			case !r.floor && r.failed == 0 && median(r.rates) > 0:
				rates, p50, p99 = append(rates, median(r.rates)), append(p50, median(r.p50)), append(p99, median(r.p99))
			}
		}
		if own == nil || len(rates) == 0 {
			continue
		}
		fmt.Fprintf(t, "| %s, %s, %s | %.1f × | %.2f | %.2f |\n", c.model, encoding(c.encoding), connections(c.connections), median(own.rates)/slices.Max(rates),
			median(own.p50)/slices.Min(p50), median(own.p99)/slices.Min(p99))
	}
}

func encoding(e load.Encoding) string {
	if e == load.JSON {
		return "JSON"
	}
	return "binary"
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// spread is the median of the rounds, and their least and greatest.
func spread(values []float64) string {
	if len(values) < 2 {
		return number(median(values))
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
