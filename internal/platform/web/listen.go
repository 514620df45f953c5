package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"sluice/internal/platform/fault"
)

// listener accepts at most max connections at a time. Unlike one that stops
// accepting, it answers those beyond: a client learns at once that it is not
// served, instead of waiting in the kernel's queue.
type listener struct {
	net.Listener
	max       int64
	open      atomic.Int64
	fresh     atomic.Int64 // accepted, first request not read yet
	refused   prometheus.Counter
	lingering chan struct{} // a slot for each refusal in progress
}

const (
	refusalBody  = `{"error":"the server is at its limit of connections; retry"}`
	refusalTime  = 250 * time.Millisecond
	maxRefusals  = 64
	maxUnreadReq = 64 << 10
)

var refusal = fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"+
	"Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(refusalBody), refusalBody)

// newListener returns a listener that is not listening yet.
func newListener(c Config) (*listener, error) {
	l := &listener{max: int64(c.MaxConnections), lingering: make(chan struct{}, maxRefusals),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_connections_refused_total", Help: "Connections refused because too many were open.",
		})}
	return l, register(c.Metrics, l.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_connections", Help: "Open connections.",
	}, func() float64 { return float64(l.open.Load()) }))
}

func (l *listener) listen(ctx context.Context, name, addr string) (err error) {
	var lc net.ListenConfig
	if l.Listener, err = lc.Listen(ctx, "tcp", addr); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the %s listener cannot be opened on %s", name, addr)
	}
	return nil
}

// closeWhenEmpty closes the listener as soon as no connection waits to be
// accepted, or when ctx ends: the kernel resets those that still wait then, which
// their clients believe to be open.
func (l *listener) closeWhenEmpty(ctx context.Context) {
	defer l.Close()
	if tcp, ok := l.Listener.(syscall.Conn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			poll(ctx, 50*time.Microsecond, func() bool { return !readable(raw) })
		}
	}
}

// readable reports whether there is something to accept.
func readable(raw syscall.RawConn) bool {
	ready := 0
	err := raw.Control(func(fd uintptr) {
		ready, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // interrupted counts as none
	})
	return err == nil && ready > 0
}

// Accept returns the next connection within the limit.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			l.fresh.Add(1)
			return newConn(nc, l), nil
		}
		l.open.Add(-1)
		l.refused.Inc()
		l.refuse(nc)
	}
}

// refuse answers a connection and closes it. It lingers for the request that
// is on its way, for closing over unread data would make the kernel discard
// the answer; under a flood of connections it just closes.
func (l *listener) refuse(c net.Conn) {
	select {
	case l.lingering <- struct{}{}:
	default:
		c.Close()
		return
	}
	go func() {
		defer func() { <-l.lingering }()
		defer c.Close()
		if c.SetDeadline(time.Now().Add(refusalTime)) != nil {
			return
		}
		if _, err := io.WriteString(c, refusal); err != nil {
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // the answer's length says, too, where it ends
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(c, maxUnreadReq))
	}()
}
