package resilience

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// HTTPConfig says how an HTTP client behaves. Zero values mean the default.
type HTTPConfig struct {
	DialTimeout   time.Duration // of connecting, and of the TLS handshake; 0 means 3s
	HeaderTimeout time.Duration // until the response's header; 0 means the policy's Timeout
	IdleTimeout   time.Duration // after which an unused connection is closed; 0 means 90s
	IdlePerHost   int           // unused connections kept for a host; 0 means 4
	// MaxResponse bounds the body of a response in bytes, decompressed; 0 means
	// 1 MiB. A longer one fails the call with fault.TooLarge.
	MaxResponse int64
	// TLS is cloned; at least TLS 1.2 is asked for in any case. nil means the
	// system's roots.
	TLS *tls.Config
	// Proxy says through which proxy a request goes; nil means none: the
	// environment's HTTP_PROXY and the like do not count.
	Proxy func(*http.Request) (*url.URL, error)
	// Redirects is how many redirects are followed; 0 means that a redirect is an
	// ordinary response. Headers with credentials do not follow to another host.
	Redirects int
	// Dial connects; nil means a net.Dialer's. Who calls addresses that strangers
	// chose, as webhooks do, checks them here, after their names were resolved.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewHTTPClient returns a client whose requests run under the policy, each
// redirect as a call of its own. A request is sent again only if it may be: its
// method is idempotent (RFC 9110 §9.2.2) or it has an Idempotency-Key, and its
// body can be had again (http.Request.GetBody, which http.NewRequest sets for
// bytes and strings).
//
// Status 429, 502, 503 and 504 are failures for the policy, and Retry-After is
// honoured; after the last attempt the caller gets the response. Otherwise
// errors are faults within the client's *url.Error.
//
// The body of a response is read before Do returns, so that the time limit,
// the attempts and the bulkhead cover all of it. It is not for streams.
func NewHTTPClient(p *Policy, cfg HTTPConfig) *http.Client {
	dialer := &net.Dialer{Timeout: cmp.Or(cfg.DialTimeout, 3*time.Second), KeepAlive: 30 * time.Second}
	if cfg.Dial == nil {
		cfg.Dial = dialer.DialContext
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		secure = cfg.TLS.Clone()
		secure.MinVersion = max(secure.MinVersion, tls.VersionTLS12)
	}
	idle := cmp.Or(cfg.IdlePerHost, 4)
	base := &http.Transport{
		Proxy:                  cfg.Proxy,
		DialContext:            cfg.Dial,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    dialer.Timeout,
		ResponseHeaderTimeout:  cmp.Or(cfg.HeaderTimeout, p.cfg.Timeout),
		IdleConnTimeout:        cmp.Or(cfg.IdleTimeout, 90*time.Second),
		MaxIdleConnsPerHost:    idle,
		MaxIdleConns:           8 * idle,
		MaxConnsPerHost:        p.cfg.Concurrency,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	return &http.Client{
		Transport: NewTransport(p, base, cfg.MaxResponse),
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > cfg.Redirects {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}
