package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
	"sluice/internal/platform/audit"
)

func (p *program) models() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "Models, their versions and aliases"}
	cmd.AddCommand(p.versions()...)
	cmd.AddCommand(&cobra.Command{
		Use: "served", Short: "List the models that a node serves, with the state of their versions", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodPost, Path: "/v2/repository/index", Body: struct{}{}})
			if err != nil {
				return err
			}
			var list []json.RawMessage
			if err := a.Decode(&list); err != nil {
				return err
			}
			return p.table([]column{{"NAME", "name"}, {"VERSION", "version"}, {"STATE", "state"}, {"REASON", "reason"}}, each(list))
		},
	}, &cobra.Command{
		Use: "get MODEL[:VERSION]", Short: "Show a model's inputs and outputs", Args: exactly(1, "the name of a model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, numbered := strings.Cut(args[0], ":")
			path := "/v2/models/" + url.PathEscape(name)
			if numbered {
				path += "/versions/" + url.PathEscape(version)
			}
			a, err := p.client.Call(cmd.Context(), client.Request{Path: path})
			if err != nil {
				return err
			}
			if p.output == "json" {
				return p.raw(a.Body)
			}
			var m struct{ Inputs, Outputs []map[string]any }
			if err := a.Decode(&m); err != nil {
				return err
			}
			var ports []json.RawMessage
			for _, s := range []struct {
				side string
				list []map[string]any
			}{{"input", m.Inputs}, {"output", m.Outputs}} {
				for _, port := range s.list {
					port["side"] = s.side
					b, _ := json.Marshal(port) // it came from JSON
					ports = append(ports, b)
				}
			}
			return p.table([]column{{"SIDE", "side"}, {"NAME", "name"}, {"DATATYPE", "datatype"}, {"SHAPE", "shape"}}, each(ports))
		},
	})
	return cmd
}

func (p *program) usage() *cobra.Command {
	var from, to, by string
	cmd := &cobra.Command{
		Use: "usage", Short: "What your tenant has had models do", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := query(map[string]string{"from": from, "to": to, "group_by": by})
			var report struct {
				Data []json.RawMessage `json:"data"`
			}
			if err := p.client.Get(cmd.Context(), "/v1/usage?"+q.Encode(), &report); err != nil {
				return err
			}
			columns := []column{{"REQUESTS", "requests"}, {"SUCCEEDED", "succeeded"}, {"FAILED", "failed"}, {"ROWS", "rows"}, {"COMPUTE MS", "compute_ms"}}
			for group := range strings.SplitSeq(by, ",") {
				if group != "" {
					columns = append([]column{{strings.ToUpper(group), group}}, columns...)
				}
			}
			return p.table(columns, each(report.Data))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "beginning (RFC 3339); a day ago without it")
	flags.StringVar(&to, "to", "", "end")
	flags.StringVar(&by, "group-by", "", "hour, day, model, version, mode; several with commas")
	return cmd
}

func (p *program) audit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit log"}
	cmd.AddCommand(&cobra.Command{
		Use: "verify -key KEY FOLDER", Short: "Prove a copy of the audit log, without a server", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return audit.VerifyCommand(cmd.Context(), args, p.out) },
	})
	return cmd
}
