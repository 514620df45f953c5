package main

import (
	"io"
	"net"
	"sync"
)

// proxy carries TCP connections to a server that others use, too, and can cut
// them: then the server cannot be reached.
type proxy struct {
	address, to string

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	open     map[net.Conn]bool
	ended    sync.WaitGroup
}

// newProxy listens on a free address of loopback.
func newProxy(to string) (*proxy, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, err
	}
	p := &proxy{address: a[0], to: to, open: map[net.Conn]bool{}}
	return p, p.heal()
}

// heal takes connections, again.
func (p *proxy) heal() error {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.ended.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.ended.Go(func() { p.carry(c) })
		}
	})
	return nil
}

// cut ends all connections and takes no more.
func (p *proxy) cut() error {
	p.mu.Lock()
	err := p.listener.Close()
	p.listener = nil
	for c := range p.open {
		_ = c.Close() // its client may have ended it just now
	}
	p.mu.Unlock()
	p.ended.Wait()
	return err
}

// enter notes a connection, so that cut ends it, and says whether it may go on.
func (p *proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) leave(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *proxy) carry(c net.Conn) {
	defer c.Close()
	if !p.enter(c) {
		return // taken just before the cut
	}
	defer p.leave(c)
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer s.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{c, s}, {s, c}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // either side may end it
			done <- struct{}{}
		}()
	}
	<-done
	c.Close()
	s.Close()
	<-done
}
