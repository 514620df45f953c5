package web

import (
	"net/http"
	"strings"

	"sluice/internal/platform/loopback"
)

// loopbackOnly protects a server without authentication from web pages that
// its user visits. It refuses a Host that is no name of this machine, which
// is how DNS rebinding shows, and writes across origins that allowed does not
// list.
func loopbackOnly(next http.Handler, allowed *CORS) http.Handler {
	var origins http.CrossOriginProtection
	if allowed != nil {
		for _, origin := range allowed.Origins {
			_ = origins.AddTrustedOrigin(origin) // "*" is no origin, and trusts nobody here
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !loopbackHost(r.Host):
			refuse(w, `{"error":"without authentication this server answers only to localhost and loopback addresses in the Host header"}`)
		case origins.Check(r) != nil:
			refuse(w, `{"error":"without authentication this server takes no cross-origin requests from browsers"}`)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func refuse(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write([]byte(body)) // fails only where the client is gone
}

// loopbackHost reports whether a Host header names this machine by a loopback
// address or localhost, with or without a port.
func loopbackHost(host string) bool {
	if bracketed, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(bracketed, "]")
	} else {
		host, _, _ = strings.Cut(host, ":")
	}
	return loopback.Host(host)
}
