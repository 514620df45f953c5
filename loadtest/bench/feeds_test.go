package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// answer serves one stream of these sequences, and returns its consumer.
func answer(t *testing.T, status string, sequences ...int) *consumer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil { // all of it: closing with something unread resets the connection
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n", status)
		for _, n := range sequences {
			event := fmt.Sprintf("id: e-%d\nevent: x\ndata: {\"time\":%q,\"sequence\":%d,\"data\":{}}\n\n", n, time.Now().Format(time.RFC3339Nano), n)
			fmt.Fprintf(conn, "%x\r\n%s\r\n%x\r\n%s\r\n", 7, event[:7], len(event)-7, event[7:]) // chunks end anywhere
		}
	}()
	c, err := dialFeed(t.Context(), listener.Addr().String(), "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	return c
}

// What a consumer did not get, or got twice or in another order, fails the
// measurement.
func TestConsumersCountEveryEvent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if took, err := answer(t, "200 OK", 4, 5, 6).take(ctx, 6, 3); err != nil || len(took) != 3 || took[0] < 0 {
		t.Errorf("%v, %v", took, err)
	}
	for name, c := range map[string]*consumer{
		"one is missing": answer(t, "200 OK", 4, 6), "one comes twice": answer(t, "200 OK", 4, 5, 5, 6), "the order is another": answer(t, "200 OK", 4, 6, 5),
		"the last is missing": answer(t, "200 OK", 4, 5), "the first is missing": answer(t, "200 OK", 5, 6), "there is one more": answer(t, "200 OK", 3, 4, 5, 6),
		"it is refused": answer(t, "503 Service Unavailable", 4, 5, 6),
	} {
		if took, err := c.take(ctx, 6, 3); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v, %v", name, took, err)
		}
	}
	if c := (&consumer{}); c.event([]byte(`{"sequence":x}`), time.Now()) == nil {
		t.Error("what is no event was taken for one")
	}
}
