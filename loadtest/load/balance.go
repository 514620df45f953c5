package load

import (
	"errors"
	"sync/atomic"
)

// Balancer chooses among servers like a balancer with health checks in front of
// them: new requests go to one that is ready, and to another where a connection
// is not taken. A request that was sent is not repeated.
type Balancer struct {
	addrs []string
	out   []atomic.Bool // of service
	next  atomic.Uint32
}

// NewBalancer returns a balancer of servers on loopback addresses, all of them
// ready.
func NewBalancer(addrs ...string) (*Balancer, error) {
	for _, addr := range addrs {
		if err := loopback(addr); err != nil {
			return nil, err
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("load: a balancer needs a server")
	}
	return &Balancer{addrs: addrs, out: make([]atomic.Bool, len(addrs))}, nil
}

// SetReady says whether a server takes new requests.
func (b *Balancer) SetReady(i int, ready bool) { b.out[i].Store(!ready) }

// Conns returns n connections.
func (b *Balancer) Conns(n int) []Conn {
	conns := make([]Conn, n)
	for i := range conns {
		c := &balanced{from: b}
		c.move()
		conns[i] = c
	}
	return conns
}

type balanced struct {
	conn
	from *Balancer
	at   int
}

// move turns to the next server that is ready, or the next one if none is.
func (c *balanced) move() {
	c.Close()
	n := len(c.from.addrs)
	first := int(c.from.next.Add(1))
	for i := range n {
		if at := (first + i) % n; !c.from.out[at].Load() {
			c.at = at
			c.addr = c.from.addrs[at]
			return
		}
	}
	c.at = first % n
	c.addr = c.from.addrs[c.at]
}

// Do sends a request to a server that is ready.
func (c *balanced) Do(r *Request) (a Answer, err error) {
	for range len(c.from.addrs) + 1 {
		if c.from.out[c.at].Load() {
			c.move()
		}
		if a, err = c.conn.Do(r); !errors.Is(err, errUnreachable) {
			return a, err
		}
		c.move()
	}
	return a, err
}
