package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
)

// Exit codes, so that scripts can tell what went wrong.
const (
	exitOK       = 0
	exitFailed   = 1 // what was asked for did not succeed: a prediction failed, a server was not there
	exitUsage    = 2 // the command line is wrong
	exitRefused  = 3 // the server has refused the request
	exitCanceled = 130
)

// terminal is what a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	live     bool // err is a terminal: progress is drawn
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// program is what all commands share.
type program struct {
	terminal
	url, output string
	environ     map[string]string
	client      *client.Client
	began       bool // a command was found and runs: later errors are not those of the command line
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args, environ []string, t terminal) int {
	p := &program{terminal: t, environ: map[string]string{}}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			p.environ[name] = value
		}
	}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	if p.client != nil {
		p.client.Close()
	}
	return p.exit(ctx, err)
}

// exit tells of an error, and returns the code for it.
func (p *program) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		return exitCanceled
	}
	fmt.Fprintln(p.err, "sluice: "+lines(message(err)))
	switch {
	case errors.As(err, new(usage)), !p.began:
		return exitUsage
	case client.StatusOf(err) != 0:
		return exitRefused
	}
	return exitFailed
}

// message is an error's text for people.
func message(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Text()
	}
	return err.Error()
}

// usage is an error of the command line.
type usage struct{ error }

func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use: "sluice", Short: "The client of Sluice: predictions, jobs, files, usage",
		Long:         "The client of Sluice.\n\nSLUICE_CLIENT_URL says where the server is, and SLUICE_CLIENT_KEY has the API key.",
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return p.open() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.url, "url", "", "address of the server (default $SLUICE_CLIENT_URL, or http://127.0.0.1:8000)")
	flags.StringVarP(&p.output, "output", "o", "table", "table, or json: what the server says, one object a line")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(p.predict(), p.jobs(), p.models(), p.batch(), p.export(), p.releases(), p.upload(), p.download(), p.usage(), p.plan(), p.audit(), p.get())
	p.mark(root)
	return root
}

// mark has all commands note that they have begun: errors before are those of the
// command line.
func (p *program) mark(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { p.began = true; return run(cmd, args) }
	}
	for _, c := range cmd.Commands() {
		p.mark(c)
	}
}

// open makes the client.
func (p *program) open() (err error) {
	if p.output != "table" && p.output != "json" {
		return usagef("--output is table or json, got %q", p.output)
	}
	if p.url == "" {
		p.url = p.environ["SLUICE_CLIENT_URL"]
	}
	// The key comes from the environment only: arguments can be seen by everybody on
	// the machine, and stay in the shell's history.
	if p.client, err = client.New(client.Config{URL: p.url, Key: p.environ["SLUICE_CLIENT_KEY"]}); err != nil {
		return usage{err}
	}
	return nil
}

// exactly makes an error of the command line of a wrong number of arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("expected %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

// get shows any resource, for what has no command of its own.
func (p *program) get() *cobra.Command {
	return &cobra.Command{
		Use: "get PATH", Short: "Read any resource of the API as JSON, such as /v1/me", Args: exactly(1, "a path such as /v1/me"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[0], "/") {
				return usagef("a path begins with /, got %q", args[0])
			}
			a, err := p.client.Call(cmd.Context(), client.Request{Method: http.MethodGet, Path: args[0]})
			if err != nil {
				return err
			}
			return p.raw(a.Body)
		},
	}
}
