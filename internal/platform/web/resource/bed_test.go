package resource

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type boxID string

type box struct {
	aggregate.Root[boxID]
	Label string
	Size  int64
}

type newBox struct {
	Label string `json:"label" minLength:"1"`
	Size  int64  `json:"size,omitempty"`
}

type boxChange struct {
	Label *string `json:"label,omitempty"`
}

type boxView struct {
	Meta
	Label string `json:"label"`
	Size  int64  `json:"size"`
}

type filled struct{}

func (filled) EventType() string { return "box.filled" }

const (
	canRead  access.Permission = "boxes:read"
	canWrite access.Permission = "boxes:write"
)

// boxes is a resource in about ten lines.
func boxes(h Hooks[newBox, boxChange, box]) Resource[boxID, box, newBox, boxChange, boxView] {
	return Resource[boxID, box, newBox, boxChange, boxView]{
		Kind: repo.Kind[boxID, box]{Name: "boxes", Root: func(b *box) *aggregate.Root[boxID] { return &b.Root }, Columns: []spec.Column[box]{
			spec.TextField("label", func(b *box) string { return b.Label }), spec.IntField("size", func(b *box) int64 { return b.Size }),
		}},
		Singular: "box", Prefix: "box", Read: canRead, Write: canWrite, Hooks: h,
		New: func(_ context.Context, _ *repo.Tx, in *newBox) (*box, error) {
			b := &box{Label: in.Label, Size: in.Size}
			b.Record(filled{})
			return b, nil
		},
		Change: func(_ context.Context, _ *repo.Tx, b *box, in *boxChange) error {
			if in.Label != nil {
				b.Label = *in.Label
			}
			return nil
		},
		View: func(b *box, m Meta) boxView { return boxView{m, b.Label, b.Size} },
	}
}

// crates are boxes whose ids clients choose.
func crates() Resource[boxID, box, newBox, boxChange, boxView] {
	r := boxes(Hooks[newBox, boxChange, box]{})
	r.Kind.Name, r.Singular, r.Prefix = "crates", "crate", ""
	r.New = func(_ context.Context, _ *repo.Tx, in *newBox) (*box, error) {
		b := &box{Label: in.Label}
		b.ID = boxID(in.Label)
		return b, nil
	}
	return r
}

// The credentials of the tests: who may write, who may read, and another tenant.
const writer, reader, stranger = "writer", "reader", "stranger"

func authenticate(ctx context.Context, c web.Credentials) (context.Context, error) {
	p := &access.Principal{Tenant: "acme", Subject: c.Token, Permissions: access.SetOf(canRead, canWrite)}
	switch c.Token {
	case writer:
	case reader:
		p.Permissions = access.SetOf(canRead)
	case stranger:
		p.Tenant = "other"
	default:
		return nil, fault.New(fault.Unauthenticated, "no").WithCode("credential_missing")
	}
	return access.With(ctx, p), nil
}

// bed is a running server with boxes.
type bed struct {
	t       testing.TB
	server  *web.Server
	store   *repo.Store
	client  *http.Client
	answers forgetful
}

// forgetful keeps no answers while it is told so, as where a process dies before
// it could.
type forgetful struct {
	*idempotency.Memory
	forget *atomic.Bool
}

func (f forgetful) Complete(ctx context.Context, key idempotency.Key, attempt int, a idempotency.Answer) error {
	if f.forget.Load() {
		return f.Release(ctx, key, attempt, false)
	}
	return f.Memory.Complete(ctx, key, attempt, a)
}

func start(t testing.TB, h Hooks[newBox, boxChange, box]) *bed {
	t.Helper()
	b := &bed{t: t, answers: forgetful{idempotency.NewMemory(time.Now), new(atomic.Bool)}, client: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}}
	b.store = repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	bus, err := cqrs.NewBus(b.store, cqrs.Config{Origin: func(ctx context.Context) cqrs.Origin {
		id, _ := uuid.Parse(web.OperationID(ctx))
		return cqrs.Origin{Operation: id}
	}})
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := problem.NewCatalog("")
	if err != nil {
		t.Fatal(err)
	}
	routes := web.NewRoutes(authenticate, nil)
	b.server, err = web.New(web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 16 << 10, MaxConnections: 100, MaxInFlight: 100,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		Routes: routes, ErrorHandler: api.ErrorHandler(catalog, []string{"/v1"}, web.HandleError),
	}, func(e *echo.Echo) {
		once := idempotency.New(b.answers, idempotency.Config{NewID: func() string { return uuid.Must(uuid.NewV7()).String() }})
		a, err := api.New(e, routes, api.Config{Title: "Boxes", Version: "v1", Problems: catalog, Idempotency: once})
		if err != nil {
			routes.Refuse(err)
			return
		}
		boxes(h).Register(a, bus)
		crates().Register(a, bus)
	})
	if err != nil {
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
	return b
}

// answer is what a request got: its status, headers and body.
type answer struct {
	status int
	header http.Header
	text   string
}

func (a answer) box(t testing.TB) boxView {
	t.Helper()
	var v boxView
	if err := json.Unmarshal([]byte(a.text), &v); err != nil || a.status >= 300 {
		t.Fatalf("%d %s: %v", a.status, a.text, err)
	}
	return v
}

func (a answer) code(t testing.TB) string {
	t.Helper()
	var p struct{ Code string }
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.text, err)
	}
	return p.Code
}

func (b *bed) send(method, path, body, credential string, headers ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+b.server.Addr()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+credential)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
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
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// boxLabels is satisfied by every box.
func boxLabels() spec.Spec[box] { return spec.Spec[box]{} }
