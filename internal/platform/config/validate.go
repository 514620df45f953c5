package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/platform/loopback"
)

// validate checks what the tags cannot express.
func (c *Config) validate() error {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	taken := map[string]string{}
	for _, l := range []struct{ key, addr string }{{"http.addr", c.HTTP.Addr}, {"grpc.addr", c.GRPC.Addr}, {"ops.addr", c.Ops.Addr}} {
		host, port, err := splitAddr(l.addr)
		if err != nil {
			add("%s: %s", l.key, err)
			continue
		}
		if !c.Authenticated() && !loopback.Host(host) {
			add("%s is %q, but no authentication is configured: anyone who can reach that address could run, load and unload models, "+
				"so only loopback addresses (127.0.0.1, [::1], localhost) are accepted; set auth.mode=required to have callers authenticated", l.key, l.addr)
		}
		if other, ok := taken[l.addr]; ok && port != 0 {
			add("%s and %s are both %s, expected different addresses", other, l.key, l.addr)
		}
		taken[l.addr] = l.key
	}
	c.checkAuth(add)
	c.checkStores(add)
	if c.HTTP.ReadHeaderTimeout > c.HTTP.ReadTimeout {
		add("http.read_header_timeout is %s, expected at most http.read_timeout (%s)", c.HTTP.ReadHeaderTimeout, c.HTTP.ReadTimeout)
	}
	if e := c.Trace.Endpoint; e != "" {
		if u, err := url.Parse(e); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			add("trace.endpoint is not a URL such as http://localhost:4318")
		}
	}
	for _, l := range []struct{ key, path string }{{"data_dir", c.DataDir}, {"model.repository", c.Model.Repository}} {
		if l.path == "" {
			add("%s is empty, expected a folder", l.key)
		}
	}
	return invalid(problems)
}

// checkAuth checks that what a token's issuer needs comes together.
func (c *Config) checkAuth(add func(format string, args ...any)) {
	a := c.Auth
	if a.JWTIssuer == "" {
		if a.JWTKeys != "" || a.JWTAudience != "" {
			add("auth.jwt_keys or auth.jwt_audience is set, but auth.jwt_issuer is empty: name the issuer of the tokens")
		}
		return
	}
	if a.Mode == "off" {
		add("auth.jwt_issuer is set, but auth.mode is off: set auth.mode=required")
	}
	if a.JWTKeys == "" || a.JWTAudience == "" {
		add("auth.jwt_issuer needs auth.jwt_keys (where its keys are) and auth.jwt_audience (what its tokens must be for)")
	}
}

// checkStores checks the schemes of the stores' addresses; whoever opens a store
// checks the rest. Addresses may hold secrets, so no message repeats one.
func (c *Config) checkStores(add func(format string, args ...any)) {
	for _, s := range []struct {
		key, url string
		schemes  []string
	}{{"database.url", c.Database.URL, []string{"sqlite", "scylla"}}, {"blob.url", c.Blob.URL, []string{"file", "s3"}}} {
		if s.url != "" && !hasScheme(s.url, s.schemes) {
			add("%s has an unknown form, expected %s:…", s.key, strings.Join(s.schemes, ":… or "))
		}
	}
	if u := c.Record.URL; u != "" && u != "none" && !hasScheme(u, []string{"sqlite", "clickhouse", "http", "https"}) {
		add("record.url has an unknown form, expected none, sqlite:… or clickhouse://…, or http://… for ClickHouse over HTTP")
	}
	if u := c.Features.URL; u != "" && u != "none" && !hasScheme(u, []string{"sqlite", "scylla"}) {
		add("features.url has an unknown form, expected none, sqlite:… or scylla://…")
	}
	if c.Record.KeepStatistics < c.Record.Keep {
		add("record.keep_statistics is %s, expected at least record.keep (%s)", c.Record.KeepStatistics, c.Record.Keep)
	}
	for _, u := range c.NATS.URL {
		if !hasScheme(u, []string{"nats", "tls"}) {
			add("nats.url has an entry of an unknown form, expected nats://host:port or tls://host:port")
		}
	}
}

func hasScheme(address string, schemes []string) bool {
	scheme, _, ok := strings.Cut(address, ":")
	return ok && slices.Contains(schemes, scheme)
}

// Authenticated reports whether callers have to prove who they are.
func (c *Config) Authenticated() bool { return c.Auth.Mode == "required" }

func splitAddr(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not an address such as 127.0.0.1:8000", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has the port %q, expected 0 to 65535", addr, text)
	}
	return host, uint16(n), nil
}
