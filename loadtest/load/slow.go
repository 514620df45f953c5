package load

import (
	"errors"
	"time"
)

// Slow returns n connections that send a few bytes at a time, with a pause before
// each, and then wait for the answer: clients on bad lines, or hostile ones.
func Slow(addr string, n, bytes int, pause time.Duration) ([]Conn, error) {
	if err := loopback(addr); err != nil {
		return nil, err
	}
	if bytes < 1 || pause <= 0 {
		return nil, errors.New("load: a slow client sends at least a byte, after a pause")
	}
	conns := make([]Conn, n)
	for i := range conns {
		conns[i] = &slowConn{conn: conn{addr: addr}, bytes: bytes, pause: pause}
	}
	return conns, nil
}

type slowConn struct {
	conn
	bytes int
	pause time.Duration
}

// Do sends a request in pieces over a connection of its own. A server that has
// had enough of it may close the connection: that is an error, too.
func (c *slowConn) Do(r *Request) (Answer, error) {
	c.Close()
	if err := c.dial(); err != nil {
		return Answer{}, err
	}
	for rest := r.Wire; len(rest) > 0; {
		time.Sleep(c.pause)
		if c.expired() {
			c.Close()
			return Answer{}, errors.New("the run ended before the request was sent")
		}
		n := min(c.bytes, len(rest))
		if _, err := c.tcp.Write(rest[:n]); err != nil {
			break // an answer may be there all the same
		}
		rest = rest[n:]
	}
	a, keep, err := c.read()
	if err != nil || !keep {
		c.Close()
	}
	return a, err
}

func (c *slowConn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.limit.IsZero() && time.Now().After(c.limit)
}
