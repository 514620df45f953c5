package send

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// receiver is an HTTPS server on an address of loopback, with its own certificate.
type receiver struct {
	*httptest.Server
	hits atomic.Int64
}

func receive(t *testing.T, address string, h http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.hits.Add(1)
		h(w, req)
	}))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.Listener.Close()
	r.Listener = l
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // handshakes that fail on purpose
	r.EnableHTTP2 = true
	r.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) port() uint16 { return netip.MustParseAddrPort(r.Listener.Addr().String()).Port() }

// sender trusts the receiver and may connect to it.
func (r *receiver) sender(t *testing.T, change func(*Config)) *Sender {
	t.Helper()
	cfg := Config{Timeout: 5 * time.Second, Roots: r.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs} //nolint:forcetypeassert // what httptest makes
	cfg.Egress.Ports, cfg.Egress.Allow = []uint16{r.port()}, loopback
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	t.Cleanup(s.Close)
	return s
}

// names is a resolver that answers each question for IPv4 addresses with the next
// list of addresses, and the last from then on.
func names(t *testing.T, answers ...[]string) (r *net.Resolver, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	server, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { server.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(reply(buffer[:n], asked, answers), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}, asked
}

// reply answers a DNS query (RFC 1035 §4) for one name.
func reply(query []byte, asked *atomic.Int64, answers [][]string) []byte {
	end := 12 + bytes.IndexByte(query[12:], 0) + 5 // of the question
	out := append([]byte{}, query[:end]...)
	out[2], out[3] = 0x84, 0x00 // an authoritative answer
	var addresses []string
	if binary.BigEndian.Uint16(query[end-4:]) == 1 { // A
		addresses = answers[min(int(asked.Add(1)), len(answers))-1]
	}
	binary.BigEndian.PutUint16(out[6:], uint16(len(addresses)))
	binary.BigEndian.PutUint32(out[8:], 0) // no authority, nothing additional
	for _, a := range addresses {
		ip := netip.MustParseAddr(a).As4()
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // this name, A, IN, TTL 0
		out = append(out, ip[:]...)
	}
	return out
}
