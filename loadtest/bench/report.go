package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// goal is a promise: a figure and the bound that it must keep.
type goal struct {
	name    string
	part    string // that measures it
	atLeast bool   // else the bound is the most that is allowed
	bound   float64
	unit    string
}

var goals = []goal{
	{"cpu_per_row_mid", "rows", false, 1.15, "x"},
	{"cpu_per_row_cnn", "rows", false, 1.7, "x"},
	{"cpu_per_row_transformer", "rows", false, 1.1, "x"},
	{"rows32_mid", "rows", true, 0.9, "x"},
	{"tiny_vs_noop", "noop", true, 0.85, "x"},
	{"latency_1conn", "latency", false, 60, "us"},
	{"allocs_per_request", "allocs", false, 25, ""},
	{"json_decode", "json", true, 6, "x"},
	{"json_encode", "json", true, 4, "x"},
	{"json_allocs_per_element", "json", false, 0, ""},
	{"goodput_1.2x", "overload", true, 95, "%"},
	{"goodput_2x", "overload", true, 95, "%"},
	{"goodput_10x", "overload", true, 95, "%"},
	{"accepted_p99_0.5x", "overload", false, slo.Seconds() * 1000, "ms"},
	{"accepted_p99_0.9x", "overload", false, slo.Seconds() * 1000, "ms"},
	{"accepted_p99_1.2x", "overload", false, slo.Seconds() * 1000, "ms"},
	{"accepted_p99_2x", "overload", false, slo.Seconds() * 1000, "ms"},
	{"accepted_p99_10x", "overload", false, slo.Seconds() * 1000, "ms"},
	{"refusal_p99", "overload", false, 10, "ms"},
	{"idle_memory", "start", false, 150, "MB"},
	{"ready", "start", false, 2, "s"},
	{"ready_first", "start", false, 2, "s"},
	{"plan_capacity", "plan", false, capacityOff, "x"},
	{"plan_p50", "plan", false, bandOff, "x"},
	{"plan_p99", "plan", false, bandOff, "x"},
	{"group_commit", "store", true, 8, "x"},
	{"bus_overhead", "bus", false, 5, "us"},
	{"bus_allocs", "bus", false, 10, ""},
	{"relay_lag_p99", "relay", false, 100, "ms"},
	{"list_depth_p99", "list", false, 2, "x"},
	{"log_append", "log", true, 50_000, "/s"},
	{"log_day", "log", false, 50, "ms"},
	{"log_cost", "log", false, 2, "us"},
	{"log_append_clickhouse", "clickhouse", true, 50_000, "/s"},
	{"log_day_clickhouse", "clickhouse", false, 50, "ms"},
	{"jobs_shared", "jobs", true, 5, "x"},
	{"jobs_accepted", "jobs", true, 3000, "/s"},
	{"jobs_accept_p99", "jobs", false, 25, "ms"},
	{"jobs_result_p99", "jobs", false, 150, "ms"},
	{"feed_rate", "feeds", true, 0.98 * feedRate, "/s"},
	{"feed_memory", "feeds", false, 64, "KiB"},
	{"batch_parquet", "batch", true, 0.9, "x"},
	{"batch_csv", "batch", true, 0.6, "x"},
	{"batch_memory", "batch", false, 300, "MB"},
	{"batch_online_p99", "beside", false, 1.15, "x"},
	{"feed_stall", "feeds", false, 10, "%"},
	{"export_csv", "export", true, 0.7, "x"},
	{"export_jsonl", "export", true, 0.7, "x"},
	{"export_parquet", "export", true, 0.7, "x"},
	{"export_xlsx", "export", true, 0.7, "x"},
	{"encode_csv", "encode", true, 2, "x"},
	{"encode_parquet", "encode", true, 1, "x"},
	{"encode_xlsx", "encode", true, 8, "x"},
	{"encode_xlsx_memory", "encode", false, 32, "MB"},
}

func (g goal) met(v float64) bool {
	if g.atLeast {
		return v >= g.bound
	}
	return v <= g.bound
}

// line is the goal's line for a measured value.
func (g goal) line(v float64, measured bool) string {
	sign, got, verdict := "<=", "unmeasured", "short"
	if g.atLeast {
		sign = ">="
	}
	if measured {
		got = number(v) + g.unit
		if g.met(v) {
			verdict = "ok"
		}
	}
	return fmt.Sprintf("goal %s %s %s%s%s %s", g.name, got, sign, number(g.bound), g.unit, verdict)
}

// number formats three to four significant digits and no more.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return trim(fmt.Sprintf("%.1f", v))
	case a >= 0.1:
		return trim(fmt.Sprintf("%.3f", v))
	case a == 0:
		return "0"
	}
	return fmt.Sprintf("%.2g", v)
}

func trim(s string) string { return strings.TrimRight(strings.TrimRight(s, "0"), ".") }

// report prints measurements as they come, and the goals at the end.
type report struct {
	out      io.Writer
	measured map[string]float64
}

func (r *report) heading(name string) { fmt.Fprintf(r.out, "\n== %s\n", name) }

func (r *report) line(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// set records the figure of a goal.
func (r *report) set(name string, v float64) {
	if !slices.ContainsFunc(goals, func(g goal) bool { return g.name == name }) {
		panic("bench: no goal is named " + name)
	}
	r.measured[name] = v
}

// goals prints the lines of the goals that the parts measure.
func (r *report) goals(of []part) {
	fmt.Fprintln(r.out)
	for _, g := range goals {
		if slices.ContainsFunc(of, func(p part) bool { return p.name == g.part }) {
			v, ok := r.measured[g.name]
			fmt.Fprintln(r.out, g.line(v, ok))
		}
	}
}
