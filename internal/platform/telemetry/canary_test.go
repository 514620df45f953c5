package telemetry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/resilience"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/web"
)

// mark is a part of every secret and of nothing else.
const mark = "CaNaRy"

// canaries makes secrets, and counts them.
type canaries struct {
	*testing.T
	made int
}

func (c *canaries) new(format string) string {
	c.made++
	return fmt.Sprintf(format, mark+rand.Text())
}

// texts returns one secret of each form that is recognised anywhere.
func (c *canaries) texts() []string {
	return []string{
		c.new(apikey.Prefix + "%s_abcdef"), c.new("eyJhbGciOiJFUzI1NiJ9.%s.c2ln"), c.new("Bearer %s"), c.new("whsec_%s"),
		c.new("https://ann:%s@host.example/x"), c.new("postgres://ann:p@%s@db:5432/x?sslmode=off"), c.new("%s@example.org"),
		c.new("-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----"), c.new("/x?a=1&api_key=%s"),
		c.new("user=ann password=%s dbname=x"), c.new(`{"password":"%s"}`), c.new("{Name:ann Token:%s}"),
	}
}

// check fails for every line that shows a secret.
func (c *canaries) check(text string) {
	c.Helper()
	for line := range strings.Lines(text) {
		if i := strings.Index(line, mark); i >= 0 {
			c.Errorf("shown: …%q…", line[max(i-200, 0):min(i+60, len(line))])
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Secrets are planted in everything that is logged; none of them comes out.
func TestCanariesStayInTheirCage(t *testing.T) {
	c := &canaries{T: t}
	var out lockedBuffer
	for _, format := range []string{"json", "text"} {
		log, err := telemetry.NewLogger(&out, telemetry.LogConfig{Level: "debug", Format: format, Service: "sluice"})
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			c.logDirectly(log)
		}
		for range 5 {
			c.callOut(log)
		}
		c.serve(log)
	}
	c.printConfig(&out)
	c.check(out.b.String())
	if n := c.made; n < 10_000 {
		t.Errorf("only %d secrets were planted", n)
	}
	if n := strings.Count(out.b.String(), secret.Redacted); n < c.made/2 {
		t.Errorf("only %d places were redacted: are the secrets logged at all?", n)
	}
}

// logDirectly logs secrets by form, by name and by type, at every place of a line.
func (c *canaries) logDirectly(log *slog.Logger) {
	cause := errors.New(strings.Join(c.texts(), ", "))
	failed := fault.Wrap(fault.Internal, fmt.Errorf("open: %w", cause), "cannot connect with %s", c.texts()[4])
	log.Error(strings.Join(c.texts(), " "), "error", failed) //nolint:sloglint // whatever is logged
	log.With("cause", cause).WithGroup("g").Warn("x", "error", failed, "list", c.texts())
	for _, text := range c.texts() {
		log.Info("x", "text", text, slog.Group("g", "deep", []any{map[string]string{"k": text}}))
	}
	for _, name := range []string{"authorization", "Cookie", "password", "db.password", "X-Api-Key", "client_secret", "accessToken", "session_id", "credentials", "private_key"} {
		pw := c.new("%s")
		log.Info("x", name, pw, "struct", map[string]any{name: pw}, "header", http.Header{name: {pw, pw}}, "secret.Text", secret.Of(pw), "typed", secret.Of(pw))
	}
}

// callOut makes outgoing calls with credentials fail, and logs why.
func (c *canaries) callOut(log *slog.Logger) {
	policy, err := resilience.New("callee", resilience.Config{Retry: resilience.Retries{Attempts: 1}})
	if err != nil {
		c.Fatal(err)
	}
	client := resilience.NewHTTPClient(policy, resilience.HTTPConfig{})
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, "http://"+url.UserPassword("ann", c.new("%s")).String()+"@127.0.0.1:1/x?token="+c.new("%s"), http.NoBody)
	if err != nil {
		c.Fatal(err)
	}
	if _, err := client.Do(req); err == nil {
		c.Error("port 1 answered")
	} else {
		log.Warn("cannot call", "error", err, "url", req.URL)
	}
}

// serve sends requests with secrets everywhere to a server whose handlers fail
// in every way, which it logs.
func (c *canaries) serve(log *slog.Logger) {
	reply := func(e echo.Context) error {
		body, err := io.ReadAll(e.Request().Body)
		if err != nil {
			return err
		}
		text := string(body)
		switch e.QueryParam("fail") {
		case "panic":
			panic(text)
		case "error":
			return errors.New(text)
		case "fault":
			return fault.Wrap(fault.Internal, errors.New(text), "failed")
		}
		return e.String(http.StatusOK, "ok")
	}
	server, err := web.New(web.Config{
		Name: "canary", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxBodyKey: "x", MaxHeader: 64 << 10, MaxConnections: 10, MaxInFlight: 10,
		ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		Log: log, Metrics: prometheus.NewRegistry(),
	}, func(e *echo.Echo) { e.POST("/*", reply) })
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.Context())
	done := make(chan error)
	if err := server.Listen(ctx); err != nil {
		c.Fatal(err)
	}
	go func() { done <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	}()
	for i := range 14 {
		for _, fail := range []string{"none", "error", "fault", "panic"} {
			c.request(client, "http://"+server.Addr(), fail, i)
		}
	}
}

func (c *canaries) request(client *http.Client, base, fail string, i int) {
	texts := c.texts()
	text := texts[i%len(texts)]
	target := base + "/x/" + url.PathEscape(text) + "?fail=" + fail + "&token=" + c.new("%s")
	req, err := http.NewRequestWithContext(c.Context(), http.MethodPost, target, strings.NewReader(strings.Join(c.texts(), "\n")))
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("Authorization", c.new("Bearer %s"))
	req.Header.Set("Cookie", c.new("sid=%s"))
	req.Header.Set("X-Api-Key", c.new("%s"))
	req.Header.Set("X-Request-Id", strings.ReplaceAll(c.texts()[0], "\n", ""))
	resp, err := client.Do(req)
	if err != nil {
		if fail != "panic" {
			c.Error(err)
		}
		return
	}
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if bytes.Contains(answer, []byte(mark)) {
		c.Errorf("a client was shown %s", answer)
	}
}

// printConfig prints a configuration whose settings hold secrets.
func (c *canaries) printConfig(out io.Writer) {
	cfg, err := config.Load([]string{
		c.new("--database-url=scylla://ann:%s@db:9042/sluice"), c.new("--nats-password=%s"), c.new("--nats-token=%s"),
		c.new("--blob-url=s3://key:%s@s3:9000/bucket"),
	}, nil)
	if err != nil {
		fmt.Fprintln(out, err)
		c.Errorf("the configuration was not read: %v", err)
	}
	if err := cfg.Print(out); err != nil {
		c.Error(err)
	}
}
