// Command jobcheck reads what a campaign over durable predictions has left, the
// platform's stores and the ledger of its clients, and says what is wrong: without
// the platform's processes, which have ended.
//
//	jobcheck -ledger run.jsonl -data DIR -queue DIR -models DIR
//
// It exits with 1 where anything is wrong, each problem on a line of its own. What
// a model should have answered it computes itself, one prediction after the other.
//
// Limits: it reads SQLite, the folder of a JetStream server and a folder of
// objects; it knows the documents of predictions, deliveries and audit entries by
// their fields.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/loadtest/crash/ledger"
)

func main() {
	var p places
	flag.StringVar(&p.ledger, "ledger", "", "file of what the clients wrote down")
	flag.StringVar(&p.data, "data", "", "the platform's data folder, with sluice.db, blobs and audit")
	flag.StringVar(&p.queue, "queue", "", "folder of the queue's server")
	flag.StringVar(&p.models, "models", "", "folder of the models that answered")
	flag.Parse()
	problems, err := run(context.Background(), p, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "jobcheck:", err)
		os.Exit(2)
	}
	if problems > 0 {
		os.Exit(1)
	}
}

// places are where everything is.
type places struct{ ledger, data, queue, models string }

// run reads and checks everything, and writes what is wrong.
func run(ctx context.Context, p places, out io.Writer) (problems int, err error) {
	l, err := ledger.Read(p.ledger)
	if err != nil {
		return 0, err
	}
	e, err := read(ctx, p)
	if err != nil {
		return 0, err
	}
	r, err := openReference(ctx, p.models)
	if err != nil {
		return 0, err
	}
	c := &checker{Ledger: l, evidence: e, objects: folder(filepath.Join(p.data, "blobs")), answer: r.answer}
	found := c.check(ctx)
	for _, problem := range found {
		fmt.Fprintln(out, problem)
	}
	fmt.Fprintln(out, c.summary())
	return len(found), r.close(ctx)
}
