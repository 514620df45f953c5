package web

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection that counts, and on which net/http's care for each request
// costs little: its deadlines are moved eight times, and a goroutine reads a byte to
// learn whether the client hangs up while it is served.
type conn struct {
	net.Conn
	l           *listener
	once        sync.Once
	fresh       atomic.Bool
	begun       bool        // something was read
	http1       atomic.Bool // whose byte is read for that only
	read, write deadline
}

func newConn(nc net.Conn, l *listener) *conn {
	c := &conn{Conn: nc, l: l}
	c.fresh.Store(true)
	c.read.set, c.write.set = nc.SetReadDeadline, nc.SetWriteDeadline
	return c
}

// Read implements net.Conn. Of HTTP/1, a single byte is read to learn whether the client
// has hung up, which is looked for once a request has taken a while.
func (c *conn) Read(p []byte) (n int, err error) {
	if !c.read.enter(len(p) == 1 && c.http1.Load()) {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.read.leave()
	for {
		if n, err = c.Conn.Read(p); n > 0 || err == nil || !c.read.early(err) {
			break
		}
	}
	if !c.begun {
		c.begun = true
		c.http1.Store(n > len(prior) && string(p[:len(prior)]) != prior)
	}
	return n, err
}

// prior begins a connection of HTTP/2 without TLS, RFC 9113 section 3.4.
const prior = "PRI "

// hijacked records that another protocol goes on.
func (c *conn) hijacked() { c.http1.Store(false) }

// Write implements net.Conn.
func (c *conn) Write(p []byte) (done int, err error) {
	if !c.write.enter(false) {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.write.leave()
	for {
		n, err := c.Conn.Write(p[done:])
		if done += n; err == nil || !c.write.early(err) {
			return done, err
		}
	}
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.read.move(t); err != nil {
		return err
	}
	return c.write.move(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.read.move(t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.write.move(t) }

// used records that the connection's first request was read, or that it ended.
func (c *conn) used() {
	if c.fresh.Load() && c.fresh.CompareAndSwap(true, false) {
		c.l.fresh.Add(-1)
	}
}

// CloseWrite lets net/http linger after an answer that refuses a body.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Close closes the connection and frees its place.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.used()
		c.l.open.Add(-1)
	})
	c.read.wake()
	return c.Conn.Close()
}
