// Command clickhouse is ClickHouse's engine behind a small part of its HTTP
// interface, for tests: enough for clickhouse-go with Protocol HTTP. The engine is
// libchdb, which is not part of this program.
//
// Limits: no users, no native protocol, no replication; asynchronous inserts are
// done at once; a query whose client has gone runs on. One process has the data.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	lib := flag.String("lib", "", "path of libchdb.so")
	data := flag.String("data", "", "folder of the data")
	addr := flag.String("addr", "127.0.0.1:8123", "where to listen, on loopback")
	connections := flag.Int("connections", 8, "queries at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *lib, *data, *addr, *connections)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse:", err)
		os.Exit(1)
	}
	os.Exit(0) // the engine's threads need not be waited for
}

func serve(ctx context.Context, lib, data, addr string, connections int) error {
	l, err := load(lib)
	if err != nil {
		return err
	}
	f := &front{idle: make(chan *connection, connections)}
	for range connections {
		c, err := l.open(data)
		if err != nil {
			return err
		}
		f.idle <- c
	}
	c := <-f.idle
	out, err := c.run("SELECT version(), timezone()", "TSV", nil)
	f.idle <- c
	if err != nil {
		return err
	}
	f.version, f.zone, _ = strings.Cut(strings.TrimSpace(string(out)), "\t")
	slog.Info("answers", "addr", addr, "version", f.version, "time_zone", f.zone)
	srv := &http.Server{Addr: addr, Handler: f, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ending)
	})
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
