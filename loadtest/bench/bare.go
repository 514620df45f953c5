package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"sluice/loadtest/load"
)

// bareAllocs returns how many heap allocations net/http alone makes for a request: a
// server in this process, whose handler reads the body into memory that it has and
// answers with as many header fields as an inference has. The generator makes none.
func bareAllocs(ctx context.Context, b *bench, like *load.Request) (_ float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: bareHandler(), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}()
	pool, err := load.Dial(l.Addr().String(), 64)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	request := &load.Request{Wire: load.Post(l.Addr().String(), "/", "Content-Type: application/octet-stream\r\n", load.Body(like.Wire))}
	one := load.Load{Requests: []*load.Request{request}}
	if err := failures(pool.Closed(ctx, one, b.span(time.Second))); err != nil {
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := pool.Closed(ctx, one, b.span(2*time.Second))
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(max(r.OK, 1)), failures(r)
}

func bareHandler() http.Handler {
	answer := make([]byte, 200)
	fields := map[string][]string{"Content-Type": {"application/octet-stream"}, "Content-Length": {strconv.Itoa(len(answer))}}
	for _, name := range []string{"X-Request-Id", "X-Content-Type-Options", "Server-Timing", "Prediction-Id"} {
		fields[name] = []string{"a value"}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var room [512]byte
		_, err := io.ReadFull(r.Body, room[:min(r.ContentLength, int64(len(room)))])
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h := w.Header()
		for name, value := range fields {
			h[name] = value
		}
		_, _ = w.Write(answer) // who has gone counts as a failure
	})
}
