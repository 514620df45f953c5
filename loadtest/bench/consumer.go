package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// consumer reads one stream of server-sent events over a connection of its own.
type consumer struct {
	conn   net.Conn
	opened chan struct{} // closed when the stream has begun
	ended  chan struct{}
	news   chan struct{} // holds a token when there is something new

	mu   sync.Mutex
	last int // sequence of the last event
	took []time.Duration
	err  error // why it ended
}

func dialFeed(ctx context.Context, addr, path string) (*consumer, error) {
	conn, err := request(ctx, &net.Dialer{}, addr, path)
	if err != nil {
		return nil, err
	}
	c := &consumer{conn: conn, opened: make(chan struct{}), ended: make(chan struct{}), news: make(chan struct{}, 1)}
	go func() {
		defer close(c.ended)
		c.fail(c.read())
	}()
	return c, nil
}

func request(ctx context.Context, d *net.Dialer, addr, path string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
	}
	return conn, err
}

func (c *consumer) close() error {
	err := c.conn.Close()
	<-c.ended
	return err
}

func (c *consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// read reads events until the connection ends or something is wrong.
func (c *consumer) read() error {
	raw := bufio.NewReaderSize(c.conn, 4<<10)
	status, err := raw.ReadString('\n')
	if err != nil || status != "HTTP/1.1 200 OK\r\n" {
		return errors.Join(fmt.Errorf("the stream was answered %q", status), err)
	}
	for line := []byte{0, 0, 0}; len(line) > 2; {
		if line, err = raw.ReadSlice('\n'); err != nil {
			return err
		}
	}
	close(c.opened)
	lines := bufio.NewReaderSize(httputil.NewChunkedReader(raw), 2<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if err := c.event(data, time.Now()); err != nil {
				return err
			}
		}
	}
}

// event takes one event in: it must be the one behind the last.
func (c *consumer) event(data []byte, now time.Time) error {
	n, err := strconv.Atoi(member(data, `"sequence":`, ','))
	made, badTime := time.Parse(time.RFC3339Nano, member(data, `"time":"`, '"'))
	if err != nil || badTime != nil {
		return fmt.Errorf("no event: %.200s", data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != 0 && n != c.last+1 {
		return fmt.Errorf("event %d came after %d", n, c.last)
	}
	c.last = n
	c.took = append(c.took, now.Sub(made))
	select {
	case c.news <- struct{}{}:
	default:
	}
	return nil
}

// member returns what is between a start and an end in a text of JSON, for members
// whose values hold no end.
func member(data []byte, start string, end byte) string {
	_, rest, _ := bytes.Cut(data, []byte(start))
	value, _, _ := bytes.Cut(rest, []byte{end})
	return string(value)
}

// take waits until the consumer has had the event with the sequence, and returns
// how late the last n were.
func (c *consumer) take(ctx context.Context, sequence, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		c.mu.Lock()
		last, err := c.last, c.err
		if last == sequence && len(c.took) == n {
			took := c.took
			c.took = make([]time.Duration, 0, n)
			c.mu.Unlock()
			return took, nil
		}
		have := len(c.took)
		c.mu.Unlock()
		if err != nil || last >= sequence {
			return nil, fmt.Errorf("it has %d events up to %d instead of %d up to %d: %w", have, last, n, sequence, errors.Join(err, errIncomplete))
		}
		if err := c.await(ctx, c.news); err != nil {
			return nil, err
		}
	}
}

var errIncomplete = errors.New("not every event has come")

// await waits for a channel while the consumer lives.
func (c *consumer) await(ctx context.Context, on <-chan struct{}) error {
	select {
	case <-on:
		return nil
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("its stream has ended: %w", c.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stallFeed opens a stream that is never read, through buffers so small that the
// server has to wait at once.
func stallFeed(ctx context.Context, addr, path string) (stop func(), err error) {
	small := func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536))
		})
		return errors.Join(err, failed)
	}
	conn, err := request(ctx, &net.Dialer{Control: small}, addr, path)
	if err != nil {
		return nil, err
	}
	return func() { _ = conn.Close() }, nil
}
