package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// proxy carries TCP connections to a server that others use, too, and can cut
// them: then the server cannot be reached.
type proxy struct {
	address, to string

	mu       sync.Mutex
	listener net.Listener
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
	errs := []error{p.listener.Close()}
	for c := range p.open {
		errs = append(errs, c.Close())
	}
	p.mu.Unlock()
	p.ended.Wait()
	return errors.Join(errs...)
}

func (p *proxy) carry(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	p.open[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}()
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
