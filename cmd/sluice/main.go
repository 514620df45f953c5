// Command sluice is the client of the platform's native API: it predicts, follows
// jobs, moves files, and shows what there is.
//
//	sluice predict iris --row '{"input":[5.1,3.5,1.4,0.2]}'
//	sluice jobs tail
//
// SLUICE_CLIENT_URL says where the server is, SLUICE_CLIENT_KEY has the API key.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), terminal{os.Stdin, os.Stdout, os.Stderr, isTerminal(os.Stderr)})
	stop()
	os.Exit(code)
}
