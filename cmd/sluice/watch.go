package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// look is how often something is looked at while somebody waits for it.
const look = time.Second

// progress is how many rows are done, and of how many; 0 while that is not known.
type progress struct {
	done, total int64
	ended       bool
	waits       *failure // what it waits for; nil: it goes on
}

// failure is why something has failed.
type failure struct{ Code, Message string }

// poll draws how far something is until it has ended, and returns what it is then.
// again is the command that goes on watching.
func (p *program) poll(ctx context.Context, path, again string, read func(json.RawMessage) (progress, error)) (json.RawMessage, error) {
	bar := p.counter(filepath.Base(path), "rows")
	defer bar.end()
	for told := ""; ; {
		a, err := p.client.Call(ctx, client.Request{Path: path})
		if err != nil {
			return nil, err
		}
		now, err := read(a.Body)
		if err != nil {
			return nil, err
		}
		if now.total > 0 {
			bar.of(now.done, now.total)
		}
		if now.ended {
			return a.Body, nil
		}
		if why := now.waits; why != nil && why.Code != told {
			told = why.Code
			fmt.Fprintf(p.err, "\nsluice: it waits: %s (%s)\n", plain(why.Message), plain(why.Code))
		}
		if pause.For(ctx, look); ctx.Err() != nil {
			fmt.Fprintf(p.err, "\nsluice: it goes on without this program: sluice %s %s\n", again, filepath.Base(path))
			return nil, ctx.Err()
		}
	}
}

// getInto is a command that watches a thing to its end, and downloads what that has made.
func getInto(thing, short string, watch func(ctx context.Context, id, out string) error) *cobra.Command {
	return &cobra.Command{Use: "get ID [FILE]", Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return usagef("expected the id of %s, and maybe a file", thing)
		}
		out := strings.Join(args[1:], "")
		if err := writable(out); err != nil {
			return err
		}
		return watch(cmd.Context(), args[0], out)
	}}
}

// failed is the error of something that has ended in a state other than completed.
func failed(what, id, status string, why *failure) error {
	switch {
	case why != nil:
		return fault.New(fault.Internal, "the %s %s is %s: %s (%s)", what, id, status, why.Message, why.Code)
	case status != "completed":
		return fault.New(fault.Internal, "the %s %s is %s", what, id, status)
	}
	return nil
}

// decode reads an answer.
func decode(body json.RawMessage, out any) error { return (&client.Answer{Body: body}).Decode(out) }
