// Package feedhttp serves feeds to HTTP clients: as server-sent events, over
// WebSockets with credits, and as pages of JSON. All use the same cursors.
//
// Its methods are made for plain routes: no middleware may compress or buffer
// what they write, nor limit its time. In place of the server's limit for a
// whole answer they set one for each event.
//
// Known limits: a WebSocket sends one event per message and does not compress.
// Browsers cannot read a refusal's status over WebSocket, nor any header; what
// they need is in the first message and in the close code.
package feedhttp

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
)

// Config holds what a Handler may be given; the zero value has defaults.
type Config struct {
	Ping         time.Duration // between signs of life on a quiet stream; default 15s
	Retry        time.Duration // after which browsers connect again; default 3s
	WriteTimeout time.Duration // for each event to be taken by the client's side; default 10s
	// Recheck is how often it is asked whether a key was revoked meanwhile.
	Recheck time.Duration // default 2s
	// Origins are the hosts, besides the server's own, whose pages may open
	// WebSockets: host patterns as of path.Match.
	Origins []string

	Now func() time.Time // default time.Now
	Log *slog.Logger     // nil discards
}

// Handler serves the feeds of a hub.
type Handler struct {
	hub *feed.Hub
	cfg Config
}

// New returns a handler.
func New(hub *feed.Hub, cfg Config) *Handler {
	cfg.Retry = cmp.Or(cfg.Retry, 3*time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 10*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{hub: hub, cfg: cfg}
}

// Target is what a route offers. The tenant is the principal's.
type Target struct {
	Kind    string
	Subject string // an id, which needs Kind
	Types   []string
	Labels  map[string]string
	Topic   *feed.Topic // instead of the hub's source
	// Oldest begins at the oldest event where the client names no cursor; else
	// it begins now.
	Oldest bool
	// Open lets clients choose kind, id, types and labels by parameters of these names.
	Open bool
}

// Serve serves a stream: over WebSocket if the client asks for an upgrade, else
// as server-sent events. It returns an error only if nothing was written yet.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, t Target) error {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return h.WebSocket(w, r, t)
	}
	return h.SSE(w, r, t)
}

// request reads what the client asks for. Who resumes by itself, as browsers
// do, sends the header; the parameter is what its page once said.
func request(r *http.Request, t *Target) (feed.Request, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return feed.Request{}, fault.Wrap(fault.Invalid, err, "the query string is malformed: encode its values").WithCode("feed_request_invalid")
	}
	start, err := feed.ParseStart(cmp.Or(r.Header.Get("Last-Event-ID"), q.Get("last_event_id"), q.Get("after")))
	if err != nil {
		return feed.Request{}, err
	}
	if start == (feed.Start{}) {
		start.Oldest = t.Oldest
	}
	policy, err := feed.ParsePolicy(q.Get("slow"))
	if err != nil {
		return feed.Request{}, err
	}
	f := feed.Filter{Kind: t.Kind, Subject: t.Subject, Types: t.Types, Labels: t.Labels}
	if t.Open {
		f.Kind, f.Subject = cmp.Or(f.Kind, q.Get("kind")), cmp.Or(f.Subject, q.Get("id"))
		if list := q.Get("types"); list != "" && len(f.Types) == 0 {
			f.Types = strings.Split(list, ",")
		}
		if f.Labels == nil {
			if f.Labels, err = labels(q.Get("labels")); err != nil {
				return feed.Request{}, err
			}
		}
	}
	p, ok := access.From(r.Context())
	if !ok {
		return feed.Request{}, access.ErrNoCredential
	}
	f.Tenant = p.Tenant
	strict := false
	if text := q.Get("strict"); text != "" {
		if strict, err = strconv.ParseBool(text); err != nil {
			return feed.Request{}, fault.New(fault.Invalid, "strict is %q, expected 1, or 0", fault.Clip(text, 40)).WithCode("feed_request_invalid")
		}
	}
	return feed.Request{Filter: f, Topic: t.Topic, Start: start, Strict: strict, Policy: policy, Expires: p.Expires}, nil
}

// labels reads a list such as "model:iris,…".
func labels(list string) (map[string]string, error) {
	if list == "" {
		return nil, nil //nolint:nilnil // none are asked for
	}
	all := map[string]string{}
	for text := range strings.SplitSeq(list, ",") {
		name, value, ok := strings.Cut(text, ":")
		if _, twice := all[name]; !ok || name == "" || twice {
			return nil, fault.New(fault.Invalid, "labels has %q, expected each name once, such as model:iris", fault.Clip(text, 64)).WithCode("feed_request_invalid")
		}
		all[name] = value
	}
	return all, nil
}

// serving is how a request's subscription is served.
func (h *Handler) serving(ctx context.Context) feed.Serving {
	how := feed.Serving{Ping: h.cfg.Ping, Recheck: h.cfg.Recheck}
	if p, ok := access.From(ctx); ok {
		how.Valid = func(ctx context.Context) error { return p.Holds(ctx, time.Now()) }
	}
	return how
}
