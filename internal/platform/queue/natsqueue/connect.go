package natsqueue

import (
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// TLS names PEM files. The system's authorities are trusted if CA is empty.
type TLS struct {
	CA        string // authorities that the server's certificate is checked against
	Cert, Key string // of this client, for servers that ask for one
}

// Login is how the client proves itself: one of the ways, or none.
type Login struct {
	Credentials    string // file with a user's JWT and seed
	NKeySeed       string // file with an nkey seed
	User, Password string
	Token          string
}

// inboxRoom is how many messages find room in an inbox.
const inboxRoom = 2048

// connect opens the connection that is kept for the life of the queue.
func (q *Queue) connect() error {
	if (q.cfg.Server == nil) == (len(q.cfg.URLs) == 0) {
		return bad(nil, "the queue needs either a server in this process or the URLs of one elsewhere")
	}
	opts := []nats.Option{
		nats.Name(q.cfg.Name),
		nats.Timeout(q.cfg.Timeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1), // what cannot be sent is an error, not a surprise later
		// A puller asks for no more messages than there are handlers, which are at most
		// 1024, and gets the ends of its requests: what found no room would be lost until
		// its lease ran out. The library's room for half a million would be 4 MiB of each,
		// which the collector takes for live memory.
		nats.SyncQueueLen(inboxRoom),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil is our own Close
				q.cfg.Log.Warn("the queue's connection was lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			q.reconnects.Add(1)
			q.cfg.Log.Info("the queue is connected again", "server", c.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			q.cfg.Log.Warn("the queue's connection reports an error", "error", err)
		}),
	}
	if q.cfg.Server != nil {
		opts = append(opts, nats.InProcessServer(q.cfg.Server))
	}
	for _, more := range []func() ([]nats.Option, error){q.cfg.TLS.options, q.cfg.Login.options} {
		o, err := more()
		if err != nil {
			return err
		}
		opts = append(opts, o...)
	}
	conn, err := nats.Connect(strings.Join(q.cfg.URLs, ","), opts...)
	if err != nil {
		return bad(err, "the queue's address or credentials are not usable; see the cause")
	}
	q.conn = conn
	return nil
}

// reconnectDelay spreads the clients of a server that was restarted.
func reconnectDelay(attempts int) time.Duration {
	d := queue.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}.After(attempts)
	return d/2 + rand.N(d/2+1)
}

func (t TLS) options() ([]nats.Option, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, bad(err, "the queue's CA file cannot be read")
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, bad(nil, "the queue's CA file %s holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, bad(err, "the queue's client certificate cannot be loaded; both a certificate and its key are needed, in PEM form")
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return []nats.Option{nats.Secure(cfg)}, nil
}

func (l Login) options() ([]nats.Option, error) {
	var opts []nats.Option
	if l.Credentials != "" {
		if _, err := os.Stat(l.Credentials); err != nil {
			return nil, bad(err, "the queue's credentials file cannot be read")
		}
		opts = append(opts, nats.UserCredentials(l.Credentials))
	}
	if l.NKeySeed != "" {
		o, err := nats.NkeyOptionFromSeed(l.NKeySeed)
		if err != nil {
			return nil, bad(err, "the queue's nkey seed file cannot be used")
		}
		opts = append(opts, o)
	}
	if l.User != "" {
		opts = append(opts, nats.UserInfo(l.User, l.Password))
	}
	if l.Token != "" {
		opts = append(opts, nats.Token(l.Token))
	}
	if len(opts) > 1 {
		return nil, bad(nil, "the queue has more than one way to log in; keep one of credentials file, nkey seed, user and token")
	}
	return opts, nil
}

func bad(cause error, format string, args ...any) error {
	return fault.Wrap(fault.Invalid, cause, format, args...).WithCode("queue_config_invalid")
}
