// Command peers measures Sluice beside other model servers: MLServer, KServe's
// Python server, BentoML, Ray Serve and Triton, each with the same ONNX models,
// the same version of ONNX Runtime, one thread for each run and as many workers
// as there are cores, from the same generator, in turns.
//
//	go run ./loadtest/peers [-short] [-only peer,...] [-write docs/PERFORMANCE.md]
//
// Peers are installed from PyPI, pinned, into the user's cache (tools/venv.sh) the
// first time. One that cannot be installed or started, or answers wrongly, is reported
// and left out with all its figures, and -write leaves the tables as they are. A run
// fails that leaves out every peer.
// How they are set up is in the folders beside this file; docs/PERFORMANCE.md says
// what is fair about it and what is not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/machine"
	"sluice/loadtest/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// settings are how long and how often is measured.
type settings struct {
	rounds     int
	warm, span time.Duration
}

// limit bounds a run, installation left out.
const limit = 25 * time.Minute

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	short := flags.Bool("short", false, "one short round: figures are rough")
	only := flags.String("only", "", "the peers to run beside Sluice, separated by commas: "+names())
	write := flags.String("write", "", "a file whose text between the markers becomes the tables, after a full run")
	binary := flags.String("server", "", "Sluice's binary; empty builds ./cmd/api")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag, and what follows it would not be read: peers are named by -only", flags.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *write != "" {
		if err := replace(*write, nil); err != nil { // before minutes are spent
			return fmt.Errorf("-write: %w", err)
		}
	}
	s := settings{rounds: 3, warm: 400 * time.Millisecond, span: 1200 * time.Millisecond}
	if *short {
		s = settings{rounds: 1, warm: 200 * time.Millisecond, span: 400 * time.Millisecond}
	}
	dir, err := os.MkdirTemp("", "sluice-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bed{settings: s, dir: dir, out: out, binary: *binary}
	if b.models, err = workload.Open(ctx, func(name string) string { return filepath.Join("loadtest", "models", name) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.models.Close()) }()
	if err := b.install(ctx, chosen); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	witness := machine.Watch(nil)
	began := time.Now()
	err = b.measure(limited, chosen)
	text := b.tables(time.Since(began), witness.Others())
	fmt.Fprint(out, "\n"+text) // also what there is of a run that has failed
	switch {
	case err != nil:
		return err
	case b.alone():
		return errors.New("no peer was measured to its end")
	case *write == "":
		return nil
	case *short || *only != "":
		fmt.Fprintf(out, "\n%s is left as it is: this was a part of a run\n", *write)
		return nil
	case len(b.left) > 0: // the tables would say that nobody left is better
		return fmt.Errorf("%s is left as it is, since peers were left out", *write)
	}
	return replace(*write, &text)
}

func names() string {
	var list []string
	for _, p := range peers {
		list = append(list, p.name)
	}
	return strings.Join(list, ", ")
}

// choose returns the peers of a list, all of them for an empty one.
func choose(list string) ([]*peer, error) {
	if list == "" {
		return peers, nil
	}
	var chosen []*peer
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(peers, func(p *peer) bool { return p.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no peer %q; the peers are %s", name, names())
		}
		chosen = append(chosen, peers[i])
	}
	return chosen, nil
}

const (
	beginMark = "<!-- peers: begin -->"
	endMark   = "<!-- peers: end -->"
)

// replace puts the text between the markers of a file; without one it looks whether it could.
func replace(path string, text *string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		return fmt.Errorf("%s has no %s and %s behind it", path, beginMark, endMark)
	}
	if text == nil {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return file.Close()
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n"+*text+endMark+after), 0o644)
}
