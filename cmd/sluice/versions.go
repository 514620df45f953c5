package main

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
)

var (
	modelColumns   = []column{{"NAME", "name"}, {"VERSIONS", "versions"}, {"LATEST", "latest.number"}, {"STAGE", "latest.stage"}, {"ALIASES", "aliases"}, {"LABELS", "latest.labels"}, {"UPDATED", "updated_at"}}
	versionColumns = []column{{"MODEL", "model"}, {"NUMBER", "number"}, {"STAGE", "stage"}, {"BYTES", "bytes"}, {"SHA256", "sha256"}, {"CREATED", "created_at"}, {"PROBLEM", "problem.message"}}
	aliasColumns   = []column{{"MODEL", "model"}, {"ALIAS", "alias"}, {"VERSION", "version"}, {"PROTECTED", "protected"}, {"PROPOSED", "proposed.version"}, {"UPDATED", "updated_at"}, {"BY", "updated_by"}}
)

// versions are the commands about the registry's versions and their aliases.
func (p *program) versions() []*cobra.Command {
	list := func(use, short, path string, columns []column) *cobra.Command {
		return &cobra.Command{Use: use + " MODEL", Short: short, Args: exactly(1, "the name of a model"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.table(columns, p.client.All(cmd.Context(), "/v1/models/"+url.PathEscape(args[0])+path, 0))
			}}
	}
	return append(p.evaluations(),
		p.modelsList(),
		list("versions", "List the registry's versions of a model", "/versions", versionColumns),
		list("aliases", "List a model's aliases", "/aliases", aliasColumns),
		p.register(), p.promote(),
	)
}

func (p *program) modelsList() *cobra.Command {
	filters := map[string]*string{}
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the models that have versions in the registry, by name", Args: exactly(0, "no arguments"),
		Long: "Lists the models of the registry. Those of a node's folder of models alone are not among them: sluice models served has all that a node serves.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, value := range filters {
				if *value != "" {
					q.Set(name, *value)
				}
			}
			if name, value, ok := strings.Cut(q.Get("label"), "="); ok {
				q.Set("label", name+":"+value)
			} else if q.Has("label") {
				return usagef("--label is NAME=VALUE, got %q", q.Get("label"))
			}
			if limit > 0 {
				q.Set("limit", strconv.Itoa(min(limit, pageSize)))
			}
			return p.table(modelColumns, p.client.All(cmd.Context(), "/v1/models?"+q.Encode(), limit))
		},
	}
	for name, about := range map[string]string{
		"search": "with this part of the name", "prefix": "whose name begins so", "stage": "whose latest version is registered, validated, ready, rejected or archived",
		"label": "whose latest version has the label NAME=VALUE", "alias": "that have this alias", "created-from": "first registered then or later, in RFC 3339", "created-to": "first registered before",
	} {
		filters[strings.ReplaceAll(name, "-", "_")] = cmd.Flags().String(name, "", about)
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "how many at most; 0 is all")
	return cmd
}

func (p *program) register() *cobra.Command {
	var card string
	var labels []string
	var hold bool
	cmd := &cobra.Command{
		Use: "register MODEL FILE…", Short: "Upload a model file, and what belongs to it, as a new version",
		Long: "Registers a version: an ONNX file, or several files: model.onnx, or graph.yaml for a model that is made of others, config.yaml, golden_inputs.json and golden_outputs.json, label files, and model.sig, their signature.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("expected the name of a model and at least one file")
			}
			body := map[string]any{"hold": hold}
			var files []map[string]string
			for _, file := range args[1:] {
				u, err := p.send(cmd.Context(), file, "", "")
				if err != nil {
					return err
				}
				name := filepath.Base(file)
				if len(args) == 2 && strings.EqualFold(filepath.Ext(name), ".onnx") {
					name = "model.onnx"
				}
				files = append(files, map[string]string{"name": name, "upload_id": u.ID})
			}
			body["files"] = files
			if card != "" {
				b, err := p.read(card)
				if err != nil {
					return err
				}
				body["card"] = string(b)
			}
			named, err := pairs("label", labels)
			if err != nil {
				return err
			}
			if len(named) > 0 {
				body["labels"] = named
			}
			return p.call(cmd.Context(), versionColumns, client.Request{Method: http.MethodPost, Path: "/v1/models/" + url.PathEscape(args[0]) + "/versions", Body: body})
		},
	}
	cmd.Flags().StringVar(&card, "card", "", "file with the model card, in Markdown")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "NAME=VALUE, to find it by; repeat for more")
	cmd.Flags().BoolVar(&hold, "hold", false, "validate it, and do not serve it yet")
	return cmd
}

func (p *program) promote() *cobra.Command {
	var alias string
	var protect bool
	cmd := &cobra.Command{
		Use: "promote MODEL VERSION", Short: "Point an alias to a version: champion, if no other is named", Args: exactly(2, "the name of a model and a version"),
		Long: "Points an alias to a version, on every node within a second and without a failed request. It fails if somebody else has changed the alias meanwhile;\n" +
			"a change of a protected alias waits for the approval of somebody else.",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/models/" + url.PathEscape(args[0]) + "/aliases/" + url.PathEscape(alias)
			header := http.Header{"If-None-Match": {"*"}}
			switch now, err := p.client.Call(cmd.Context(), client.Request{Path: path}); {
			case client.StatusOf(err) == http.StatusNotFound:
			case err != nil:
				return err
			default:
				header = http.Header{"If-Match": {now.Header.Get("ETag")}}
			}
			body := map[string]any{"version": args[1]}
			if cmd.Flags().Changed("protect") {
				body["protected"] = protect
			}
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodPut, Path: path, Body: body, Header: header})
			if err != nil {
				return err
			}
			if a.Status == http.StatusAccepted {
				fmt.Fprintln(p.err, "sluice: the alias is protected: somebody else has to approve the change")
			}
			return p.one(aliasColumns, a.Body)
		},
	}
	cmd.Flags().StringVar(&alias, "alias", "champion", "which alias")
	cmd.Flags().BoolVar(&protect, "protect", false, "have later changes need the approval of somebody else")
	return cmd
}
