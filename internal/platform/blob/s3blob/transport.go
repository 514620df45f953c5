package s3blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// newTransport returns a transport that gives up on a server that is silent.
// Whole requests have no limit: bodies are as long as they are.
func newTransport(c Config) (*http.Transport, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &silentConn{conn, c.Silence}, nil
		},
		MaxIdleConns: 64, MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     c.Silence,
		TLSHandshakeTimeout: 5 * time.Second,
		DisableCompression:  true, // what is stored is what is read
	}
	if len(c.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(c.CA) {
			return nil, badConfig("the certificates of the object store are not in PEM")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// silentConn times out when nothing moves. Every read and write renews the time.
type silentConn struct {
	net.Conn
	limit time.Duration
}

// Read implements net.Conn.
func (c *silentConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. The answer that is being waited for meanwhile is
// not late: its time begins anew, too.
func (c *silentConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
