package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sluice/internal/platform/fault"
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
		if !c.Authenticated() && !isLoopback(host) {
			add("%s is %q, but no authentication is configured: anyone who can reach that address could run, load and unload models, "+
				"so only loopback addresses (127.0.0.1, [::1], localhost) are accepted", l.key, l.addr)
		}
		if other, ok := taken[l.addr]; ok && port != 0 {
			add("%s and %s are both %s, expected different addresses", other, l.key, l.addr)
		}
		taken[l.addr] = l.key
	}
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
	if len(problems) > 0 {
		return fault.New(fault.Invalid, "configuration: %s", strings.Join(problems, "\nconfiguration: "))
	}
	return nil
}

// Authenticated reports whether callers have to prove who they are. No way to
// do so exists yet, so every listener stays on loopback.
func (c *Config) Authenticated() bool { return false }

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

// isLoopback reports whether only this machine can reach host. An empty host
// means every interface. Names other than localhost are not resolved: what
// they mean can change.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
