package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/limit"
	"sluice/internal/platform/web/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	canRead  access.Permission = "widgets:read"
	canWrite access.Permission = "widgets:write"
)

// The credentials of the tests.
const (
	writer   = "writer"   // of tenant a, may do everything
	reader   = "reader"   // of tenant a, may read
	stranger = "stranger" // of tenant b, may do everything
)

func authenticate(ctx context.Context, c web.Credentials) (context.Context, error) {
	p := &access.Principal{Subject: c.Token, Tenant: "a"}
	switch c.Token {
	case writer:
		p.Permissions = access.SetOf(canRead, canWrite)
	case reader:
		p.Permissions = access.SetOf(canRead)
	case stranger:
		p.Tenant, p.Permissions = "b", access.SetOf(canRead, canWrite)
	case "":
		return ctx, nil
	default:
		return nil, fault.New(fault.Unauthenticated, "the credential is not valid").WithCode("credential_invalid")
	}
	return access.With(ctx, p), nil
}

// Widget is a resource of the tests.
type Widget struct {
	ID   string   `json:"id" readOnly:"true" doc:"Its id."`
	Name string   `json:"name" minLength:"1" maxLength:"40" doc:"Its name."`
	Size int      `json:"size,omitempty" minimum:"0" doc:"Its size in millimetres."`
	Made Time     `json:"made" readOnly:"true"`
	Tags []string `json:"tags,omitempty" maxItems:"5"`
	Part *Part    `json:"part,omitempty"`
}

// Part is a part of a widget.
type Part struct {
	Material string `json:"material,omitempty"`
	Weight   int    `json:"weight,omitempty"`
}

// NewWidget is what clients send to make a widget.
type NewWidget struct {
	Name string   `json:"name" minLength:"1" maxLength:"40"`
	Size int      `json:"size,omitempty" minimum:"0"`
	Tags []string `json:"tags,omitempty" maxItems:"5"`
	Part *Part    `json:"part,omitempty"`
}

type widgetOut struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Widget
}

// bed is a running server with widgets.
type bed struct {
	t         testing.TB
	server    *web.Server
	api       *API
	routes    *web.Routes
	log       *logBuffer
	client    *http.Client
	document  routers.Router
	unchecked bool // exchanges are not compared with the document

	mu         sync.Mutex
	widgets    map[string]Widget // by id
	version    map[string]int64
	operations []string      // ids of operations that were begun
	fail       error         // of the next creation
	hold       chan struct{} // creations wait for it to close; nil does not hold
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setting changes a bed before it starts.
type setting struct {
	limits *limit.Limits
	api    func(*Config)
	web    func(*web.Config)
	more   func(*echo.Echo, *bed)
}

func start(t testing.TB, s setting) *bed {
	t.Helper()
	b := &bed{t: t, log: &logBuffer{}, widgets: map[string]Widget{}, version: map[string]int64{}}
	b.client = &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 20 * time.Second}
	if err := b.build(s); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Run(ctx) }()
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	b.load()
	return b
}

func (b *bed) build(s setting) error {
	catalog, err := problem.NewCatalog("", problem.Type{Code: "widget_sold", Title: "The widget is sold", Fix: "Choose another."})
	if err != nil {
		return err
	}
	b.routes = web.NewRoutes(authenticate, s.limits)
	cfg := web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 16 << 10, MaxConnections: 100, MaxInFlight: 100,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		Routes: b.routes, ErrorHandler: ErrorHandler(catalog, []string{"/v1", "/api/v2"}, web.HandleError),
		Log: slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if s.web != nil {
		s.web(&cfg)
	}
	b.server, err = web.New(cfg, func(e *echo.Echo) {
		c := Config{
			Title: "Widgets", Version: "v1", Problems: catalog, MaxBody: 4 << 10,
			Idempotency: idempotency.New(idempotency.NewMemory(time.Now), idempotency.Config{}),
		}
		if s.api != nil {
			s.api(&c)
		}
		var newErr error
		if b.api, newErr = New(e, b.routes, c); newErr != nil {
			b.routes.Refuse(newErr)
			return
		}
		b.register()
		if s.more != nil {
			s.more(e, b)
		}
	})
	return err
}

func (b *bed) register() {
	Register(b.api, Operation{ID: "list-widgets", Method: "GET", Path: "/widgets", Summary: "List widgets", Permission: canRead},
		func(_ context.Context, in *struct {
			PageQuery
			Color string `query:"color" enum:"red,blue"`
		}) (*struct{ Body Page[Widget] }, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			var all []Widget
			for _, w := range b.widgets {
				all = append(all, w)
			}
			next := ""
			if len(all) > in.Limit {
				all, next = all[:in.Limit], "more"
			}
			return &struct{ Body Page[Widget] }{NewPage(all, next)}, nil
		})
	Register(b.api, Operation{ID: "create-widget", Method: "POST", Path: "/widgets", Summary: "Create a widget", Permission: canWrite, Status: 201, Idempotency: KeyOptional},
		func(ctx context.Context, in *struct{ Body NewWidget }) (*widgetOut, error) {
			return b.create(ctx, in.Body)
		})
	Register(b.api, Operation{ID: "read-widget", Method: "GET", Path: "/widgets/{id}", Summary: "Read a widget", Permission: canRead},
		func(_ context.Context, in *struct {
			ID string `path:"id" maxLength:"40"`
		}) (*widgetOut, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			w, ok := b.widgets[in.ID]
			if !ok {
				return nil, fault.New(fault.NotFound, "there is no widget %q", in.ID)
			}
			return &widgetOut{ETag: ETag(b.version[in.ID]), Body: w}, nil
		})
	Register(b.api, Operation{ID: "change-widget", Method: "PUT", Path: "/widgets/{id}", Summary: "Change a widget", Permission: canWrite},
		func(_ context.Context, in *struct {
			IfMatch
			ID   string `path:"id"`
			Body NewWidget
		}) (*widgetOut, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if err := in.Check(b.version[in.ID]); err != nil {
				return nil, err
			}
			w := b.widgets[in.ID]
			w.Name = in.Body.Name
			b.widgets[in.ID] = w
			b.version[in.ID]++
			return &widgetOut{ETag: ETag(b.version[in.ID]), Body: w}, nil
		})
}

func (b *bed) create(ctx context.Context, n NewWidget) (*widgetOut, error) {
	b.mu.Lock()
	b.operations = append(b.operations, web.OperationID(ctx))
	err, hold := b.fail, b.hold
	b.fail = nil
	b.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	id := fmt.Sprintf("w%d", len(b.widgets)+1)
	w := Widget{ID: id, Name: n.Name, Size: n.Size, Tags: n.Tags, Part: n.Part, Made: Time{time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.UTC)}}
	b.widgets[id], b.version[id] = w, 1
	return &widgetOut{ETag: ETag(1), Location: "/v1/widgets/" + id, Body: w}, nil
}

// load reads the API's own document, to compare exchanges with it.
func (b *bed) load() {
	b.t.Helper()
	text, err := b.api.OpenAPI()
	if err != nil {
		b.t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.document, err = legacy.NewRouter(doc); err != nil {
		b.t.Fatal(err)
	}
}

// answer is what a request got.
type answer struct {
	*http.Response
	text string
}

func (a answer) problem(t testing.TB) problem.Problem {
	t.Helper()
	var p problem.Problem
	d := json.NewDecoder(strings.NewReader(a.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || a.Header.Get("Content-Type") != problem.MediaType {
		t.Fatalf("%d %s %q is no problem: %v", a.StatusCode, a.Header.Get("Content-Type"), a.text, err)
	}
	if p.Status != a.StatusCode || p.Title == "" || p.Detail == "" || p.RequestID != a.Header.Get("Request-Id") || p.RequestID == "" {
		t.Errorf("incomplete problem %+v for request %q", p, a.Header.Get("Request-Id"))
	}
	return p
}

// send sends a request with a credential and headers, in pairs.
func (b *bed) send(method, path, body, credential string, headers ...string) answer {
	b.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+b.server.Addr()+path, content)
	if err != nil {
		b.t.Fatal(err)
	}
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := answer{resp, string(text)}
	if !b.unchecked {
		b.check(r, body, a)
	}
	return a
}

// check compares an exchange with the document: every answer, and the requests
// that were taken.
func (b *bed) check(r *http.Request, body string, a answer) {
	b.t.Helper()
	if strings.HasPrefix(r.URL.Path, "/v1/openapi") || r.Method == "HEAD" || r.Method == "OPTIONS" || a.Header.Get("Content-Encoding") != "" {
		return
	}
	u := *r.URL
	u.Scheme, u.Host = "", ""
	r = r.Clone(context.Background())
	r.URL = &u
	route, params, err := b.document.FindRoute(r)
	if err != nil {
		if a.StatusCode != 404 && a.StatusCode != 405 {
			b.t.Errorf("%s %s answered %d and is not in the document: %v", r.Method, u.Path, a.StatusCode, err)
		}
		return
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	in := &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: params, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
	}}
	if a.StatusCode < 300 && r.Header.Get("Content-Encoding") == "" {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			b.t.Errorf("%s %s was answered by %d, but its document refuses it: %v", r.Method, u.Path, a.StatusCode, err)
		}
	}
	if a.StatusCode == 304 {
		return
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.StatusCode, Header: a.Header, Body: io.NopCloser(strings.NewReader(a.text)), Options: in.Options,
	})
	if err != nil {
		b.t.Errorf("%s %s: the answer %d %s is not as documented: %v", r.Method, u.Path, a.StatusCode, a.text, err)
	}
}

func nothingAtAll(context.Context, *struct{}) (*struct{}, error) { return nil, nil }
