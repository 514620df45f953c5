//go:build services

package scyllarepo

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/cql/cqltest"
)

// proxy stands between a driver and the server. It knows frames of version 4 of
// the protocol, and loses answers, or questions, to batches.
type proxy struct {
	server string
	addr   string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	cuts     float64 // the share of batches whose connection is cut
	cut      int     // how many were
	wg       sync.WaitGroup
}

const opBatch = 0x0d

func newProxy(t *testing.T) *proxy {
	t.Helper()
	at, err := cql.Parse(cqltest.URL(t, "any"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{server: at.Hosts[0], addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	p.up(t)
	t.Cleanup(func() { p.down(); p.wg.Wait() })
	return p
}

// up listens, each time at the same address.
func (p *proxy) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.addr = l, l.Addr().String()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
}

// down refuses connections and ends those that there are.
func (p *proxy) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) keep(c net.Conn, kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
		c.Close()
	}
}

func (p *proxy) losing(share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = share
}

func (p *proxy) lost() int { p.mu.Lock(); defer p.mu.Unlock(); return p.cut }

// unlucky says whether to cut now, and then whether the question is lost too.
func (p *proxy) unlucky() (cut, question bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cut = rand.Float64() < p.cuts
	if cut {
		p.cut++
	}
	return cut, cut && rand.IntN(3) == 0
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	p.keep(client, true)
	p.keep(server, true)
	defer p.keep(client, false)
	defer p.keep(server, false)
	answers := make(chan struct{})
	p.wg.Go(func() {
		defer close(answers)
		_, _ = io.Copy(client, server)
		client.Close()
	})
	p.forward(server, client)
	server.Close()
	<-answers
}

// forward passes on the client's frames until one is unlucky.
func (p *proxy) forward(server, client net.Conn) {
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[5:]))
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		cut, question := false, false
		if head[4] == opBatch {
			cut, question = p.unlucky()
		}
		if cut {
			client.Close() // no answer arrives any more
		}
		if question {
			return
		}
		if _, err := server.Write(slices.Concat(head, body)); err != nil {
			return
		}
		if cut {
			// The server has the question: sometimes it is still at it when the client
			// asks again.
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			return
		}
	}
}

// through has a driver connect through the proxy, and nowhere else.
func (p *proxy) through(c *gocql.ClusterConfig) {
	host, port, _ := net.SplitHostPort(p.addr)
	n, _ := strconv.Atoi(port)
	c.Hosts = []string{p.addr}
	c.ProtoVersion = 4
	c.Timeout, c.ReadTimeout = 5*time.Second, 5*time.Second
	c.AddressTranslator = gocql.AddressTranslatorFunc(func(net.IP, int) (net.IP, int) { return net.ParseIP(host), n })
}
