package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// CORS says which web pages of other origins may call this server from a
// browser (Fetch standard, 3.3). An origin is allowed because it is listed, and
// never because it asks; "null", which sandboxed pages of anybody send, cannot
// be listed.
type CORS struct {
	// Origins are exact, such as https://console.example; "*" alone allows all,
	// and then no Credentials.
	Origins []string
	// Credentials lets browsers send cookies and client certificates.
	Credentials bool
	// MaxAge is how long a browser may keep the answer to a preflight; default
	// ten minutes.
	MaxAge time.Duration
}

// cors is a policy with its header values made once.
type cors struct {
	any     bool
	origins map[string][]string
	// credentials is nil or {"true"}.
	credentials []string
	maxAge      []string
}

var (
	corsAny     = []string{"*"}
	corsTrue    = []string{"true"}
	corsMethods = []string{"GET, HEAD, POST, PUT, PATCH, DELETE"}
	corsHeaders = []string{"Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-Match, If-None-Match, Traceparent, Tracestate, X-Api-Key, X-Request-Id"}
	corsExposed = []string{"Deprecation, ETag, Idempotent-Replayed, Link, Location, RateLimit, RateLimit-Policy, Request-Id, Retry-After, Sunset, X-Request-Id"}
	varyOrigin  = []string{"Origin"}
)

func (c *CORS) compile() (*cors, error) {
	if c == nil || len(c.Origins) == 0 {
		return nil, nil
	}
	out := &cors{origins: map[string][]string{}}
	age := c.MaxAge
	if age == 0 {
		age = 10 * time.Minute
	}
	out.maxAge = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	if c.Credentials {
		out.credentials = corsTrue
	}
	for _, origin := range c.Origins {
		if origin == "*" {
			if c.Credentials || len(c.Origins) > 1 {
				return nil, fault.New(fault.Invalid, `cors: the origin "*" stands alone and without credentials: list the origins that may send them`)
			}
			out.any = true
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || origin != u.Scheme+"://"+u.Host || strings.Contains(origin, "*") {
			return nil, fault.New(fault.Invalid, "cors: %.100q is no origin: expected scheme://host[:port], without a path, such as https://console.example", origin)
		}
		out.origins[origin] = []string{origin}
	}
	return out, nil
}

// answer sets what a browser needs to know. It reports whether the request was a
// preflight, which is complete with that.
func (c *cors) answer(h http.Header, r *http.Request) (preflight bool) {
	if !c.any {
		h["Vary"] = varyOrigin // also without an Origin: a cache must not serve that answer to a page
	}
	origin := r.Header["Origin"]
	if len(origin) != 1 {
		return false
	}
	allowed := c.origins[origin[0]]
	if c.any {
		allowed = corsAny
	}
	if allowed == nil {
		return false
	}
	h["Access-Control-Allow-Origin"] = allowed
	if c.credentials != nil {
		h["Access-Control-Allow-Credentials"] = c.credentials
	}
	if r.Method != http.MethodOptions || len(r.Header["Access-Control-Request-Method"]) == 0 {
		h["Access-Control-Expose-Headers"] = corsExposed
		return false
	}
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Allow-Headers"] = corsHeaders
	h["Access-Control-Max-Age"] = c.maxAge
	return true
}
