package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
)

func (p *program) predict() *cobra.Command {
	var in struct {
		rows             []string
		file, ref, prior string
		within           string
		async, stream    bool
		wait             int
	}
	cmd := &cobra.Command{
		Use: "predict MODEL[:VERSION|@ALIAS]", Short: "Have a model answer",
		Long: "Has a model answer: at once, or durably with --async or --wait.\n\n" +
			"The input is --row, once or several times, or a file with one JSON object: {\"rows\": […]} or {\"inputs\": […]}. - is the standard input.",
		Example: "  sluice predict iris --row '{\"input\":[5.1,3.5,1.4,0.2]}'\n  sluice predict iris --file rows.json --async",
		Args:    exactly(1, "the name of a model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := p.question(in.rows, in.file)
			if err != nil {
				return err
			}
			body.set("client_ref", in.ref)
			body.set("priority", in.prior)
			r := client.Request{Method: http.MethodPost, Path: "/v1/models/" + url.PathEscape(args[0]) + "/predictions", Body: body, Header: http.Header{}}
			if in.within != "" {
				r.Header.Set("Cancel-After", in.within)
			}
			switch {
			case in.stream:
				return p.follow(cmd.Context(), r)
			case in.async:
				r.Header.Set("Prefer", "respond-async")
			case in.wait > 0:
				r.Header.Set("Prefer", fmt.Sprintf("wait=%d", in.wait))
			}
			a, err := p.client.Call(cmd.Context(), r)
			if err != nil {
				return err
			}
			return p.prediction(a.Body)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&in.rows, "row", nil, "a row: an object with the model's inputs by name; repeat for more")
	flags.StringVarP(&in.file, "file", "f", "", "file with the request; - is the standard input")
	flags.BoolVar(&in.async, "async", false, "accept it durably, and print its id")
	flags.IntVar(&in.wait, "wait", 0, "accept it durably, and wait so many seconds for its end")
	flags.BoolVar(&in.stream, "stream", false, "print each step as it comes")
	flags.StringVar(&in.ref, "client-ref", "", "a name of your own for a durable prediction")
	flags.StringVar(&in.within, "cancel-after", "", "it is wanted no more after so long, such as 30s")
	flags.StringVar(&in.prior, "priority", "", "high, normal or low, among your own durable predictions")
	cmd.MarkFlagsMutuallyExclusive("async", "wait", "stream")
	cmd.MarkFlagsMutuallyExclusive("row", "file")
	cmd.MarkFlagsOneRequired("row", "file")
	return cmd
}

// question reads the input of a prediction.
func (p *program) question(rows []string, file string) (object, error) {
	if len(rows) > 0 {
		list := make([]json.RawMessage, len(rows))
		for i, r := range rows {
			if list[i] = json.RawMessage(r); !json.Valid(list[i]) {
				return nil, usagef("--row %s is no JSON", fault.Clip(r, 80))
			}
		}
		return object{"rows": list}, nil
	}
	b, err := p.read(file)
	if err != nil {
		return nil, err
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(b, &body); err != nil {
		return nil, usagef("%s has no JSON object with rows or inputs: %v", file, err)
	}
	out := make(object, len(body))
	for name, value := range body {
		out[name] = value
	}
	return out, nil
}

// read returns the content of a file, or of the standard input.
func (p *program) read(file string) (b []byte, err error) {
	if file == "-" {
		b, err = io.ReadAll(p.in)
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, usage{err}
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), nil
}

// prediction shows one, and fails where it has failed.
func (p *program) prediction(b json.RawMessage) error {
	var made struct {
		ID     string          `json:"id"`
		Status string          `json:"status"`
		Output json.RawMessage `json:"output"`
		URL    string          `json:"output_url"`
		Error  *failure
	}
	if err := json.Unmarshal(b, &made); err != nil {
		return fault.Wrap(fault.Internal, err, "the server's answer cannot be read: is it a Sluice of this version?")
	}
	switch {
	case p.output == "json":
		if err := p.raw(b); err != nil {
			return err
		}
	case made.Output != nil:
		if err := p.raw(made.Output); err != nil {
			return err
		}
	case made.Error == nil:
		if _, err := fmt.Fprintf(p.out, "%s %s %s\n", plain(made.ID), plain(made.Status), plain(made.URL)); err != nil {
			return err
		}
	}
	if made.Error != nil {
		return fault.New(fault.Internal, "the prediction %s: %s (%s)", made.Status, made.Error.Message, made.Error.Code)
	}
	return nil
}
