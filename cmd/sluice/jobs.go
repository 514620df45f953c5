package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
)

// jobColumns are what a table of durable predictions shows.
var jobColumns = []column{{"ID", "id"}, {"STATUS", "status"}, {"MODEL", "model"}, {"VERSION", "version"}, {"REF", "client_ref"}, {"ATTEMPTS", "attempts"}, {"CREATED", "created_at"}, {"ERROR", "error.code"}}

func (p *program) jobs() *cobra.Command {
	cmd := &cobra.Command{Use: "jobs", Short: "Durable predictions"}
	cmd.AddCommand(p.jobsList(), p.jobsGet(), p.jobsTail(),
		p.act("cancel", "Cancel a durable prediction", "cancel"),
		p.act("replay", "Give a dead letter a new life", "replay"))
	return cmd
}

func (p *program) jobsList() *cobra.Command {
	var status, model, ref string
	var dead bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List durable predictions, the latest first", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := query(map[string]string{"status": status, "model": model, "client_ref": ref})
			if dead {
				q.Set("dead_letter", "true")
			}
			return p.latest(cmd.Context(), jobColumns, "/v1/predictions", q, limit)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&status, "status", "", "queued, running, cancelling, succeeded, failed, cancelled or expired")
	flags.StringVar(&model, "model", "", "of this model")
	flags.StringVar(&ref, "client-ref", "", "with this name of your own")
	flags.BoolVar(&dead, "dead", false, "only dead letters")
	flags.IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	return cmd
}

func (p *program) jobsGet() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a durable prediction, or wait for its end and show it", Args: exactly(1, "the id of a prediction"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := p.await(cmd.Context(), "/v1/predictions/"+url.PathEscape(args[0]), wait)
			if err != nil {
				return err
			}
			return p.prediction(b)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for its end, such as 90s")
	return cmd
}

// await reads a prediction until it has ended or time is up.
func (p *program) await(ctx context.Context, path string, wait time.Duration) (json.RawMessage, error) {
	for end := time.Now().Add(wait); ; {
		left := max(min(time.Until(end), 30*time.Second), 0)
		a, err := p.client.Call(ctx, client.Request{Path: fmt.Sprintf("%s?wait=%d", path, int(left/time.Second))})
		if err != nil {
			return nil, err
		}
		var made struct {
			Status string `json:"status"`
		}
		if err := a.Decode(&made); err != nil {
			return nil, err
		}
		if made.Status != "queued" && made.Status != "running" && made.Status != "cancelling" || left < time.Second {
			return a.Body, nil
		}
	}
}

// act is a command that does something to a prediction.
func (p *program) act(name, short, action string) *cobra.Command {
	return &cobra.Command{
		Use: name + " ID", Short: short, Args: exactly(1, "the id of a prediction"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.call(cmd.Context(), jobColumns, client.Request{Method: http.MethodPost, Path: "/v1/predictions/" + url.PathEscape(args[0]) + "/" + action})
		},
	}
}

func (p *program) jobsTail() *cobra.Command {
	var model, after string
	cmd := &cobra.Command{
		Use: "tail [ID]", Short: "Follow what happens to durable predictions",
		Long: "Follows what happens to all durable predictions, those of a model, or one: that ends when it has ended.\n" +
			"A connection that breaks is made again behind the last event. --after goes on behind a cursor, which is what begins each line.",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/events/stream?kind=predictions"
			switch {
			case len(args) > 1 || len(args) == 1 && model != "":
				return usagef("expected the id of a prediction, or --model, or neither")
			case len(args) == 1:
				path = "/v1/predictions/" + url.PathEscape(args[0]) + "/events"
			case model != "":
				path = "/v1/models/" + url.PathEscape(model) + "/predictions/events"
			}
			return p.tail(cmd.Context(), path, after)
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "of this model")
	cmd.Flags().StringVar(&after, "after", "", "a cursor, or earliest")
	return cmd
}

// tail prints events as they come.
func (p *program) tail(ctx context.Context, path, after string) error {
	for e, err := range p.client.Events(ctx, client.Request{Path: path}, after) {
		if err != nil {
			return err
		}
		if err := p.event(e); err != nil {
			return err
		}
	}
	return nil
}

// follow prints the steps of a prediction that is answered as events.
func (p *program) follow(ctx context.Context, r client.Request) error {
	for e, err := range p.client.Events(ctx, r, "") {
		if err != nil {
			return err
		}
		if e.Type == "error" {
			var f struct{ Code, Message string }
			_ = json.Unmarshal([]byte(e.Data), &f)
			return fault.New(fault.Internal, "%s (%s)", cmp.Or(f.Message, e.Data), f.Code)
		}
		if err := p.event(e); err != nil {
			return err
		}
	}
	return nil
}

// event prints one: its cursor, type and data.
func (p *program) event(e client.Event) (err error) {
	if p.output == "json" {
		data := json.RawMessage(e.Data)
		if !json.Valid(data) {
			data, _ = json.Marshal(e.Data) // a string always can be
		}
		b, err := json.Marshal(map[string]any{"id": e.ID, "type": e.Type, "data": data})
		if err != nil {
			return err
		}
		return p.raw(b)
	}
	var fields map[string]any
	_ = json.Unmarshal([]byte(e.Data), &fields)
	if subject := at(fields, "subject"); subject != nil { // an event of the feed
		_, err = fmt.Fprintf(p.out, "%s  %s  %s  %s  %s\n", plain(e.ID), text(at(fields, "time")), text(subject), plain(e.Type), text(at(fields, "data")))
		return err
	}
	_, err = fmt.Fprintf(p.out, "%s  %s  %s\n", cmp.Or(plain(e.ID), "-"), plain(e.Type), plain(e.Data))
	return err
}
