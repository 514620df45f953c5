package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

var scheduleColumns = []column{{"ID", "id"}, {"NAME", "name"}, {"DATASET", "export.dataset"}, {"CRON", "cron"}, {"ZONE", "time_zone"}, {"PAUSED", "paused"}, {"NEXT", "next_runs.0"},
	{"LAST", "last_run.outcome"}, {"EXPORT", "last_run.export"}, {"ERROR", "last_run.error.code"}}

func (p *program) schedules() *cobra.Command {
	cmd := &cobra.Command{Use: "schedules", Short: "Exports that are made again and again"}
	of := func(name, short, method string, body any) *cobra.Command {
		return &cobra.Command{Use: name + " ID", Short: short, Args: exactly(1, "the id of a schedule"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.call(cmd.Context(), scheduleColumns, client.Request{Method: method, Path: "/v1/export-schedules/" + url.PathEscape(args[0]), Body: body, Header: http.Header{"If-Match": {"*"}}})
			}}
	}
	var limit int
	list := &cobra.Command{Use: "list", Short: "List schedules", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.table(scheduleColumns, p.client.All(cmd.Context(), "/v1/export-schedules", limit))
		}}
	list.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	cmd.AddCommand(p.scheduleCreate(), list, of("get", "Show a schedule", http.MethodGet, nil), of("delete", "Delete a schedule; its exports stay", http.MethodDelete, nil),
		of("pause", "Pause a schedule", http.MethodPatch, map[string]bool{"paused": true}), of("resume", "Resume a paused schedule", http.MethodPatch, map[string]bool{"paused": false}))
	return cmd
}

func (p *program) scheduleCreate() *cobra.Command {
	var in exportFlags
	var name, cron, zone, missed, overlap string
	var window bool
	cmd := &cobra.Command{
		Use: "create DATASET", Short: "Export a dataset again and again", Args: exactly(1, "the name of a dataset; sluice export datasets lists them"),
		Example: "  sluice export schedules create jobs --cron '0 6 * * 1-5' --zone Europe/Berlin --window --format xlsx",
		RunE: func(cmd *cobra.Command, args []string) error {
			export, err := in.body(args[0])
			if err != nil {
				return err
			}
			body := object{"cron": cron, "export": export}
			body.set("name", name)
			body.set("time_zone", zone)
			body.set("missed", missed)
			body.set("overlap", overlap)
			if window {
				body["window"] = true
			}
			return p.call(cmd.Context(), scheduleColumns, client.Request{Method: http.MethodPost, Path: "/v1/export-schedules", Body: body})
		},
	}
	in.declare(cmd)
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "a name of your own, which the exports get")
	flags.StringVar(&cron, "cron", "", "minute, hour, day of month, month and day of week, or @daily and the like")
	flags.StringVar(&zone, "zone", "", "on whose clocks, such as Europe/Berlin; UTC without it")
	flags.BoolVar(&window, "window", false, "each export has the rows since the one before, instead of all")
	flags.StringVar(&missed, "missed", "", "what becomes of missed times: latest (the last is made up for), all or skip")
	flags.StringVar(&overlap, "overlap", "", "when the export before has not ended: skip or run")
	_ = cmd.MarkFlagRequired("cron")
	return cmd
}
