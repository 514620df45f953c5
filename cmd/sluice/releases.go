package main

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

var (
	releaseColumns = []column{{"ID", "id"}, {"STATUS", "status"}, {"MODEL", "model"}, {"ALIAS", "alias"}, {"STEP", "step"}, {"WEIGHT", "weight"}, {"VERDICT", "verdict"}, {"REASON", "reason"}, {"UPDATED", "updated_at"}}
	decisions      = []column{{"#", "sequence"}, {"AT", "at"}, {"BY", "by"}, {"TYPE", "type"}, {"DATA", "data"}}
)

// releases are the commands about versions on their way to be champion.
func (p *program) releases() *cobra.Command {
	cmd := &cobra.Command{Use: "releases", Short: "Versions on their way to an alias, step by step"}
	var file string
	start := &cobra.Command{
		Use: "start", Short: "Begin a release by a plan: a JSON file with model, candidate and steps", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := p.read(file)
			if err != nil {
				return err
			}
			if !json.Valid(b) {
				return usagef("%s is no JSON", file)
			}
			return p.call(cmd.Context(), releaseColumns, client.Request{Method: http.MethodPost, Path: "/v1/releases", Body: json.RawMessage(b)})
		},
	}
	start.Flags().StringVarP(&file, "file", "f", "", "file with the plan; - is the standard input")
	_ = start.MarkFlagRequired("file")
	cmd.AddCommand(start,
		&cobra.Command{Use: "list", Short: "List releases", Args: exactly(0, "no arguments"), RunE: func(cmd *cobra.Command, _ []string) error {
			return p.table(releaseColumns, p.client.All(cmd.Context(), "/v1/releases", 0))
		}},
		&cobra.Command{Use: "get ID", Short: "Show a release", Args: exactly(1, "the id of a release"), RunE: func(cmd *cobra.Command, args []string) error {
			return p.call(cmd.Context(), releaseColumns, client.Request{Path: "/v1/releases/" + url.PathEscape(args[0])})
		}},
		&cobra.Command{Use: "history ID", Short: "Show what happened to a release, with every decision", Args: exactly(1, "the id of a release"), RunE: func(cmd *cobra.Command, args []string) error {
			return p.table(decisions, p.client.All(cmd.Context(), "/v1/releases/"+url.PathEscape(args[0])+"/events", 0))
		}},
		&cobra.Command{Use: "replay ID", Short: "Make every decision of a release again, from its numbers", Args: exactly(1, "the id of a release"), RunE: func(cmd *cobra.Command, args []string) error {
			return p.call(cmd.Context(), []column{{"EVENTS", "events"}, {"HOLDS", "holds"}, {"DIFFERS", "differs"}, {"STATUS", "status"}}, client.Request{Path: "/v1/releases/" + url.PathEscape(args[0]) + "/replay"})
		}})
	for name, short := range map[string]string{"pause": "Keep a release at its step", "resume": "Let a paused release go on", "rollback": "Give all requests back to the champion", "approve": "Agree to what follows a step"} {
		cmd.AddCommand(p.releaseAct(name, short))
	}
	return cmd
}

// releaseAct is a command that changes a release as it is now.
func (p *program) releaseAct(name, short string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: name + " ID", Short: short, Args: exactly(1, "the id of a release"), RunE: func(cmd *cobra.Command, args []string) error {
		path := "/v1/releases/" + url.PathEscape(args[0])
		now, err := p.client.Call(cmd.Context(), client.Request{Path: path})
		if err != nil {
			return err
		}
		r := client.Request{Method: http.MethodPost, Path: path + "/" + name, Header: http.Header{"If-Match": {now.Header.Get("ETag")}}}
		if reason != "" {
			r.Body = map[string]string{"reason": reason}
		}
		return p.call(cmd.Context(), releaseColumns, r)
	}}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	return cmd
}
