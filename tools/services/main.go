// Command services runs the real servers that contract suites are tested
// against: a JetStream cluster of three NATS nodes, MinIO, Apache Cassandra in the
// place of ScyllaDB, and ClickHouse's engine behind a part of its HTTP interface. They listen on loopback ports of their own, keep
// their data in the user's cache under the checkout's path, and go on running
// after the command has ended.
//
//	services start [NAME]...     start what does not run; return once all answer
//	services stop [NAME]...      end what runs; without names its data goes, too
//	services restart NAME...     stop, then start with the same data
//	services kill NAME...        end without notice (SIGKILL); the data stays
//	services pause NAME...       freeze: connections stay open, nothing answers
//	services resume NAME...      let a frozen one go on
//	services status              who runs, and where
//	services env                 the environment that tests read, for eval
//	services with COMMAND...     start, run the command in that environment, and
//	                             end what was started here, however it went
//
// What it starts is for tests: no TLS, fixed credentials, one replica of the
// CQL and S3 data. But every write is on disk before it is acknowledged, as it
// must be in production, so what tests see of speed and of crashes is honest.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = "usage: services start|stop|restart|kill|pause|resume|status|env [NAME]... or services with COMMAND..."

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	verb, names := args[0], args[1:]
	p, err := here()
	if err != nil {
		return err
	}
	if verb == "with" {
		return with(ctx, p, names)
	}
	return p.locked(func() error { return do(ctx, p, verb, names) })
}

// do carries out one verb while nobody else changes the same checkout's set.
func do(ctx context.Context, p *place, verb string, names []string) error {
	s, err := open(p)
	if err != nil {
		return err
	}
	some, err := s.named(names)
	if err != nil {
		return err
	}
	if len(names) == 0 && slices.Contains([]string{"restart", "kill", "pause", "resume"}, verb) {
		return fmt.Errorf("%s needs names, one or more of %s", verb, strings.Join(s.names(), ", "))
	}
	switch verb {
	case "start":
		return s.start(ctx, some)
	case "stop":
		return s.stop(ctx, some)
	case "restart":
		if err := s.end(ctx, some, syscall.SIGTERM); err != nil {
			return err
		}
		return s.start(ctx, some)
	case "kill":
		return s.end(ctx, some, syscall.SIGKILL)
	case "pause":
		return s.signal(ctx, some, syscall.SIGSTOP)
	case "resume":
		return s.signal(ctx, some, syscall.SIGCONT)
	case "status":
		s.status()
		return nil
	case "env":
		fmt.Print(s.environment().shell())
		return nil
	default:
		return fmt.Errorf("unknown verb %q; %s", verb, usage)
	}
}
