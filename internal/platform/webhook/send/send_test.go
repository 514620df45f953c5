package send

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/egress"
)

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func to(url string) Message {
	return Message{URL: url, ID: "evt_1", Time: time.Unix(1614265330, 0), Signature: "v1,x", Body: []byte(`{"a":1}`)}
}

// A receiver that knows nothing but the standard verifies what it gets.
func TestReceiverVerifies(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	ring, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	var e webhook.Endpoint
	e.Begin(ring, secret.Of("whsec_"+base64.StdEncoding.EncodeToString(key)))
	m := to("")
	if m.Signature, err = e.Sign(ring, m.ID, m.Time, m.Body); err != nil {
		t.Fatal(err)
	}
	r := receive(t, "127.0.0.1:0", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), body)
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if err != nil || req.Header.Get("webhook-signature") != want || req.Header.Get("webhook-id") != "evt_1" || req.Header.Get("webhook-timestamp") != "1614265330" ||
			req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" || !bytes.Equal(body, m.Body) || req.URL.RequestURI() != "/hook?a=b" {
			t.Errorf("%s %s %v %s, %v; want %s", req.Method, req.URL, req.Header, body, err, want)
		}
		for name := range req.Header {
			switch name {
			case "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Content-Type", "Content-Length", "User-Agent", "Accept-Encoding":
			default:
				t.Errorf("the receiver is sent %s", name)
			}
		}
		w.WriteHeader(http.StatusOK)
	})
	m.URL = r.URL + "/hook?a=b"
	if got := r.sender(t, nil).Send(t.Context(), m); got.Class != webhook.None || got.Status != 200 || got.Duration <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestStatuses(t *testing.T) {
	status, after := 0, ""
	internal := receive(t, "127.0.0.2:0", ok)
	r := receive(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", internal.URL)
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
	})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := r.sender(t, func(c *Config) {
		c.Egress.Ports = append(c.Egress.Ports, internal.port())
		c.Now = func() time.Time { return now }
	})
	for _, tt := range []struct {
		status int
		after  string
		want   webhook.Class
		wait   time.Duration
	}{
		{200, "", webhook.None, 0}, {201, "", webhook.None, 0}, {202, "9", webhook.None, 0}, {204, "", webhook.None, 0}, {299, "", webhook.None, 0},
		{301, "", webhook.Redirected, 0}, {302, "", webhook.Redirected, 0}, {303, "", webhook.Redirected, 0}, {304, "", webhook.Redirected, 0}, {307, "", webhook.Redirected, 0}, {308, "", webhook.Redirected, 0},
		{400, "", webhook.BadStatus, 0}, {401, "", webhook.BadStatus, 0}, {404, "7", webhook.BadStatus, 0}, {410, "", webhook.GoneForGood, 0}, {500, "", webhook.BadStatus, 0}, {501, "", webhook.BadStatus, 0}, {599, "", webhook.BadStatus, 0},
		{429, "", webhook.Throttled, 0}, {429, "120", webhook.Throttled, 2 * time.Minute}, {502, "1", webhook.Throttled, time.Second}, {504, "-1", webhook.Throttled, 0}, {503, "soon", webhook.Throttled, 0},
		{503, now.Add(time.Hour).Format(http.TimeFormat), webhook.Throttled, time.Hour}, {503, now.Add(-time.Hour).Format(http.TimeFormat), webhook.Throttled, 0},
	} {
		status, after = tt.status, tt.after
		if got := s.Send(t.Context(), to(r.URL)); got.Class != tt.want || got.RetryAfter != tt.wait || got.Status != tt.status {
			t.Errorf("%d, Retry-After %q: %+v", tt.status, tt.after, got)
		}
	}
	if n := internal.hits.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestFailures(t *testing.T) {
	stop := make(chan struct{})
	slow := receive(t, "127.0.0.1:0", func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-stop:
		case <-req.Context().Done():
		}
	})
	defer close(stop)
	short := func(c *Config) { c.Timeout = 100 * time.Millisecond }
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	hijacked := receive(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain.Close() // nobody listens there any more
	refused := netip.MustParseAddrPort(plain.Addr().String())
	nowhere, _ := names(t, nil)
	old := receive(t, "127.0.0.1:0", ok)
	old.TLS.MaxVersion = tls.VersionTLS11
	for name, tt := range map[string]struct {
		r      *receiver
		change func(*Config)
		url    string
		want   webhook.Class
	}{
		"slow":            {slow, short, "", webhook.Timeout},
		"broken":          {hijacked, nil, "", webhook.Broken},
		"refused":         {slow, func(c *Config) { c.Egress.Ports = []uint16{refused.Port()} }, "https://" + plain.Addr().String(), webhook.Refused},
		"untrusted":       {slow, func(c *Config) { c.Roots = x509.NewCertPool() }, "", webhook.TLS},
		"another name":    {slow, func(c *Config) { c.Egress.Resolver, _ = names(t, []string{"127.0.0.1"}) }, fmt.Sprintf("https://receiver.test:%d", slow.port()), webhook.TLS},
		"old TLS":         {old, nil, "", webhook.TLS},
		"no such host":    {slow, func(c *Config) { c.Egress.Resolver = nowhere }, fmt.Sprintf("https://receiver.test:%d", slow.port()), webhook.NoSuchHost},
		"no https":        {slow, nil, strings.Replace(slow.URL, "https", "http", 1), webhook.Unsendable},
		"user":            {slow, nil, strings.Replace(slow.URL, "://", "://u:p@", 1), webhook.Unsendable},
		"nonsense":        {slow, nil, "https://[", webhook.Unsendable},
		"forbidden":       {slow, func(c *Config) { c.Egress.Allow = nil }, "", webhook.Forbidden},
		"forbidden port":  {slow, func(c *Config) { c.Egress.Ports = nil }, "", webhook.Forbidden},
		"metadata":        {slow, nil, "https://169.254.169.254/latest/meta-data", webhook.Forbidden},
		"decimal":         {slow, func(c *Config) { c.Egress.Allow = nil; c.Egress.Resolver = nowhere }, fmt.Sprintf("https://2130706433:%d", slow.port()), webhook.NoSuchHost},
		"mapped loopback": {slow, func(c *Config) { c.Egress.Allow = nil }, fmt.Sprintf("https://[::ffff:127.0.0.1]:%d", slow.port()), webhook.Forbidden},
	} {
		url := tt.url
		if url == "" {
			url = tt.r.URL
		}
		if got := tt.r.sender(t, tt.change).Send(t.Context(), to(url)); got.Class != tt.want || got.Status != 0 {
			t.Errorf("%s: %+v, want %s", name, got, tt.want)
		}
	}
	if got := slow.sender(t, nil).Send(cancelled, to(slow.URL)); got.Class != webhook.Interrupted {
		t.Errorf("interrupted: %+v", got)
	}
}

// An answer is never read to its end, and headers are bounded.
func TestHugeAnswers(t *testing.T) {
	written := make(chan int64, 1)
	r := receive(t, "127.0.0.1:0", func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/header" {
			w.Header().Set("X-Huge", strings.Repeat("x", 1<<20))
			return
		}
		n := int64(0)
		for chunk := make([]byte, 1<<16); n < 1<<32; {
			k, err := w.Write(chunk)
			if n += int64(k); err != nil {
				break
			}
		}
		written <- n
	})
	s := r.sender(t, nil)
	if got := s.Send(t.Context(), to(r.URL)); got.Class != webhook.None || got.Status != 200 {
		t.Errorf("%+v", got)
	}
	if n := <-written; n > 64<<20 { // what buffers take
		t.Errorf("%d bytes of an answer were taken", n)
	}
	if got := s.Send(t.Context(), to(r.URL+"/header")); got.Class != webhook.Broken {
		t.Errorf("huge headers: %+v", got)
	}
}

// An answer that never ends does not turn a success into a failure.
func TestEndlessAnswer(t *testing.T) {
	r := receive(t, "127.0.0.1:0", func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	if got := r.sender(t, func(c *Config) { c.Timeout = 300 * time.Millisecond }).Send(t.Context(), to(r.URL)); got.Class != webhook.None {
		t.Errorf("%+v", got)
	}
}

// A name that leads to the public internet when it is looked up first, and to the
// platform's own network when it is called, leads nowhere. 127.0.0.2 plays the
// public internet here.
func TestRebinding(t *testing.T) {
	outside := receive(t, "127.0.0.2:0", ok)
	inside := receive(t, fmt.Sprintf("127.0.0.1:%d", outside.port()), ok)
	resolver, asked := names(t, []string{"127.0.0.2"}, []string{"127.0.0.1"}, []string{"127.0.0.1", "169.254.169.254"}, []string{"127.0.0.2"})
	guarded := func(c *Config) {
		c.Egress = egress.Config{Ports: []uint16{outside.port()}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: resolver}
	}
	for i, want := range []webhook.Class{webhook.None, webhook.Forbidden, webhook.Forbidden, webhook.None} {
		s := outside.sender(t, guarded) // one that has no connection open
		if got := s.Send(t.Context(), to(fmt.Sprintf("https://example.com:%d/", outside.port()))); got.Class != want {
			t.Errorf("call %d: %+v, want %q", i+1, got, want)
		}
	}
	if asked.Load() != 4 || outside.hits.Load() != 2 || inside.hits.Load() != 0 {
		t.Errorf("%d questions; outside was called %d times, inside %d", asked.Load(), outside.hits.Load(), inside.hits.Load())
	}
}

// A proxy of the environment would connect to what the guard forbids.
func TestNoProxy(t *testing.T) {
	proxy := receive(t, "127.0.0.1:0", ok)
	r := receive(t, "127.0.0.2:0", ok)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("https_proxy", proxy.URL)
	s := r.sender(t, func(c *Config) { c.Egress.Resolver, _ = names(t, []string{"127.0.0.2"}) })
	got := s.Send(t.Context(), to(fmt.Sprintf("https://example.com:%d", r.port())))
	if s.transport.Proxy != nil || got.Class != webhook.None || proxy.hits.Load() != 0 {
		t.Errorf("%+v; the proxy was called %d times", got, proxy.hits.Load())
	}
}

func TestTimeoutIsBounded(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: 20 * time.Second, time.Minute: 30 * time.Second, time.Second: time.Second} {
		if got := New(Config{Timeout: given}).timeout; got != want {
			t.Errorf("%s became %s", given, got)
		}
	}
}
