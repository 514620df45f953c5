package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

// batchFlags are what a batch is made of.
type batchFlags struct {
	model, format, sheet, encoding      string // of the file
	delimiter, quote, decimal           string // of CSV
	header                              *bool  // nil: it is found out
	rowID, onError, deadline, out       string
	columns, include, results, metadata []string
	ratio                               float64
	watch                               bool
}

// What flags may be, where that is a list: the server says the same, but only after the
// file was uploaded.
var (
	fileFormats = []string{"csv", "jsonl", "parquet", "arrow", "xlsx"}
	encodings   = []string{"utf-8", "utf-16le", "utf-16be", "windows-1252", "iso-8859-1"}
	decimals    = []string{".", ","}
	onErrors    = []string{"continue", "stop"}
)

func (p *program) batchSubmit() *cobra.Command {
	var in batchFlags
	var header bool
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Upload a file of rows and have a model answer them", Args: exactly(1, "a file"),
		Example: "  sluice batch submit rows.csv --model iris --watch --out results.jsonl\n" +
			"  sluice batch submit rows.csv -m iris:2 --delimiter ';' --decimal , --header=false --columns input=1,2,3,4\n" +
			"  sluice batch submit rows.parquet -m iris@champion --row-id id --include region --results parquet,xlsx --deadline 2h --max-error-ratio 0.01",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("header") {
				in.header = &header
			}
			body, err := in.body(args[0], time.Now())
			if err != nil {
				return err
			}
			if err := writable(in.out); err != nil {
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
				return p.one(batchColumns, a.Body)
			}
			return p.watch(cmd.Context(), "/v1/batches/"+url.PathEscape(made.ID), in.out)
		},
	}
	cmd.Flags().BoolVar(&header, "header", false, "whether the first row names the columns, also of a workbook: --header or --header=false; found out without it")
	in.declare(cmd)
	return cmd
}

// declare adds the flags.
func (in *batchFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&in.model, "model", "m", "", "name, name:version or name@alias")
	flags.StringVar(&in.format, "format", "", "of the file: csv, jsonl, parquet, arrow or xlsx; by its name, or by what is in it, without it")
	flags.StringVar(&in.sheet, "sheet", "", "of a workbook, where several have rows")
	flags.StringVar(&in.encoding, "encoding", "", "of a text file: utf-8, utf-16le, utf-16be, windows-1252 or iso-8859-1; UTF-8 and UTF-16 are told apart without it")
	flags.StringVar(&in.delimiter, "delimiter", "", `between the cells of a CSV file; \t is a tab; found out without it`)
	flags.StringVar(&in.quote, "quote", "", `around cells of a CSV file, or none; " without it`)
	flags.StringVar(&in.decimal, "decimal", "", "the decimal sign of a CSV file, . or a comma; found out without it")
	flags.StringVar(&in.rowID, "row-id", "", "the column with the rows' own names")
	flags.StringArrayVar(&in.columns, "columns", nil, "INPUT=COLUMN,COLUMN,…: which columns make an input; repeat for more")
	flags.StringSliceVar(&in.include, "include", nil, "columns of the file that come along in the results")
	flags.StringSliceVar(&in.results, "results", nil, "formats of the results: csv, jsonl, parquet or xlsx, several with commas; by the name of --out without it, or jsonl")
	flags.StringVar(&in.onError, "on-row-error", "", "when a row fails: continue or stop")
	flags.Float64Var(&in.ratio, "max-error-ratio", 1, "the share of the rows that may fail before the batch does")
	flags.StringVar(&in.deadline, "deadline", "", "when it expires if it has not ended: a time (RFC 3339) or so long from now, such as 90m; one that cannot be kept is refused")
	flags.StringArrayVar(&in.metadata, "metadata", nil, "NAME=VALUE of your own; repeat for more")
	flags.BoolVarP(&in.watch, "watch", "w", false, "wait for its end, with a bar")
	flags.StringVar(&in.out, "out", "", "wait for its end, and download the results to this file")
	_ = cmd.MarkFlagRequired("model")
	complete(cmd, "format", fileFormats)
	complete(cmd, "encoding", encodings)
	complete(cmd, "decimal", decimals)
	complete(cmd, "results", resultFormats)
	complete(cmd, "on-row-error", onErrors)
}

// complete has a shell complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// known refuses what is none of the values of a flag; nothing is one.
func known(flag, value string, values []string) error {
	if value == "" || slices.Contains(values, value) {
		return nil
	}
	return usagef("--%s is one of %s, got %q", flag, strings.Join(values, ", "), value)
}

// check refuses what cannot be, before the file is uploaded.
func (in *batchFlags) check() error {
	if !(in.ratio >= 0 && in.ratio <= 1) { // which NaN is not
		return usagef("--max-error-ratio is a share, from 0 to 1, got %v", in.ratio)
	}
	for _, f := range []struct {
		flag, value string
		values      []string
	}{{"format", in.format, fileFormats}, {"encoding", in.encoding, encodings}, {"decimal", in.decimal, decimals}, {"on-row-error", in.onError, onErrors}} {
		if err := known(f.flag, f.value, f.values); err != nil {
			return err
		}
	}
	for _, format := range in.results {
		if err := known("results", format, resultFormats); err != nil {
			return err
		}
	}
	if told := resultFormat(in.out); told != "" && len(in.results) > 0 && !slices.Contains(in.results, told) {
		return usagef("--out is a file of the format %s, which is none of --results: add it there, or name the file otherwise", told)
	}
	return nil
}

// body is the request for a batch, without its file.
func (in *batchFlags) body(file string, now time.Time) (map[string]any, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	deadline, err := until(in.deadline, now)
	if err != nil {
		return nil, err
	}
	metadata, err := pairs("metadata", in.metadata)
	if err != nil {
		return nil, err
	}
	columns, err := in.inputs()
	if err != nil {
		return nil, err
	}
	format := in.format
	if format == "" {
		format = formatOf(file)
	}
	formats := in.results
	if told := resultFormat(in.out); told != "" && len(formats) == 0 {
		formats = []string{told}
	}
	body := object{}
	body.set("model", in.model)
	body.set("format", format)
	body.set("sheet", in.sheet)
	body.set("encoding", in.encoding)
	body.set("row_id", in.rowID)
	body.set("on_row_error", in.onError)
	body.set("deadline_at", deadline)
	if in.ratio != 1 {
		body["max_error_ratio"] = in.ratio
	}
	csv := object{}
	csv.set("delimiter", tab(in.delimiter))
	csv.set("quote", in.quote)
	csv.set("decimal", in.decimal)
	if in.header != nil {
		csv["header"] = *in.header
	}
	output := object{}
	output.list("formats", formats)
	output.list("include_input", in.include)
	for name, part := range map[string]object{"csv": csv, "output": output, "columns": columns, "metadata": metadata} {
		if len(part) > 0 {
			body[name] = part
		}
	}
	return body, nil
}

// inputs are the columns of each input.
func (in *batchFlags) inputs() (object, error) {
	columns := object{}
	for _, c := range in.columns {
		input, list, ok := strings.Cut(c, "=")
		if !ok || input == "" || list == "" {
			return nil, usagef("--columns is INPUT=COLUMN,COLUMN,…, got %q", c)
		}
		columns[input] = strings.Split(list, ",")
	}
	return columns, nil
}

// object is a part of a request, in which is only what was said.
type object map[string]any

func (o object) set(name, value string) {
	if value != "" {
		o[name] = value
	}
}

func (o object) list(name string, values []string) {
	if len(values) > 0 {
		o[name] = values
	}
}

// tab is a character that may be written as \t.
func tab(s string) string {
	if s == `\t` {
		return "\t"
	}
	return s
}

// until is a time, which may be said as how long it is from now; "" is none.
func until(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).UTC().Format(time.RFC3339Nano), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil && !at.After(now) {
		return "", usagef("--deadline %s has passed", text)
	} else if err != nil {
		return "", usagef("--deadline is a time such as 2026-01-31T18:00:00Z, or so long from now, such as 90m, got %q", text)
	}
	return text, nil
}

// pairs reads NAME=VALUE of a flag that is repeated.
func pairs(flag string, list []string) (object, error) {
	all := object{}
	for _, l := range list {
		name, value, ok := strings.Cut(l, "=")
		if !ok || name == "" {
			return nil, usagef("--%s is NAME=VALUE, got %q", flag, l)
		}
		all[name] = value
	}
	return all, nil
}
