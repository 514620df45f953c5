package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a running server with everything that is administered, as the program
// has it, over a store in memory.
type bed struct {
	t      testing.TB
	server *web.Server
	store  *repo.Store
	bus    *cqrs.Bus
	client *http.Client
	root   string // the first key, which may do everything
	log    *buffer
	signer audit.Key
	trail  *trail.Trail
	seals  *seal.Ring

	mu   sync.Mutex
	sent []repo.Message
}

// buffer is what the program logs.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func start(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, client: &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}, log: &buffer{}}
	logger := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.store = repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	b.store.Watch(func(c *repo.Changeset) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sent = append(b.sent, c.Messages...)
	})
	queue := must[*memqueue.Queue](t)(memqueue.New(memqueue.Config{}))
	if err := queue.Ensure(t.Context(), trail.Stream(1, time.Minute)); err != nil {
		t.Fatal(err)
	}
	b.bus = must[*cqrs.Bus](t)(cqrs.NewBus(b.store, cqrs.Config{AuditKey: []byte("secret"), Log: logger, Origin: func(ctx context.Context) cqrs.Origin {
		id, _ := uuid.Parse(web.OperationID(ctx))
		return cqrs.Origin{Operation: id}
	}}))
	b.signer = must[audit.Key](t)(audit.NewKey(rand.Reader, "test/audit"))
	files := &audit.Memory{}
	b.trail = trail.New(b.store, queue, func() (audit.Storage, func() error, error) { return files, func() error { return nil }, nil }, b.signer, trail.Config{Slog: logger})
	carrier := must[*relay.Relay](t)(relay.New(b.store, queue, relay.Config{Log: logger}))
	catalog := must[*access.Catalog](t)(access.NewCatalog(Permissions()...))
	b.seals = must[*seal.Ring](t)(seal.Parse(seal.NewKey()))
	m := Admin{Directory: directory.New(b.store, []byte("pseudonym")), Catalog: catalog, Roles: must[*access.Roles](t)(access.NewRoles(catalog)),
		Passwords: must[*password.Hasher](t)(password.New(password.Config{})), Trail: b.trail, Seals: b.seals}
	keys := must[*identity.Keys](t)(identity.NewKeys(m.Directory.Lookup, m.Roles, time.Now, identity.KeysConfig{TTL: time.Hour}))
	m.Directory.Invalidate(keys)
	first := must[apikey.Key](t)(apikey.Generate(rand.Reader))
	if err := m.Directory.CreateFirst(t.Context(), access.DefaultTenant, access.PlatformAdmin, first); err != nil {
		t.Fatal(err)
	}
	b.root = first.Secret.Reveal()
	b.serve(m, keys, logger)
	b.run(b.server.Run, carrier.Run, b.trail.Run)
	return b
}

func (b *bed) serve(m Admin, keys *identity.Keys, logger *slog.Logger) {
	b.t.Helper()
	problems := must[*problem.Catalog](b.t)(problem.NewCatalog("", Problems()...))
	gate := must[*identity.Authenticator](b.t)(identity.New(identity.Config{Keys: keys}))
	routes := web.NewRoutes(func(ctx context.Context, c web.Credentials) (context.Context, error) {
		var shown identity.Credentials
		if c.Token != "" {
			shown.APIKey = []string{c.Token}
		}
		p, err := gate.Authenticate(ctx, shown)
		return access.With(ctx, p), err
	}, nil)
	b.server = must[*web.Server](b.t)(web.New(web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 16 << 10, MaxConnections: 100, MaxInFlight: 100,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 10 * time.Second,
		Routes: routes, ErrorHandler: api.ErrorHandler(problems, []string{"/v1"}, web.HandleError), Log: logger,
	}, func(e *echo.Echo) {
		once := idempotency.New(idempotency.NewMemory(time.Now), idempotency.Config{NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Log: logger})
		a, err := api.New(e, routes, api.Config{Title: "Admin", Version: "v1", Problems: problems, Idempotency: once, Log: logger})
		if err != nil {
			routes.Refuse(err)
			return
		}
		m.Register(a, b.bus)
	}))
	if err := b.server.Listen(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// run runs the parts of the program until the test ends.
func (b *bed) run(parts ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	for _, part := range parts {
		go func() { done <- part(ctx) }()
	}
	b.t.Cleanup(func() {
		b.client.CloseIdleConnections()
		cancel()
		for range parts {
			if err := <-done; err != nil {
				b.t.Error(err)
			}
		}
	})
}

// answer is what a request got.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	text   string
}

func (b *bed) send(method, path, body, credential string, headers ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+b.server.Addr()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
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
	return answer{b.t, method + " " + path, resp.StatusCode, resp.Header, string(text)}
}

// ok demands a status and returns the answer.
func (a answer) ok(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d %s, want %d", a.what, a.status, a.text, status)
	}
	return a
}

// refused demands a problem.
func (a answer) refused(status int, code string) {
	a.t.Helper()
	if got := a.field("code"); a.status != status || got != code {
		a.t.Errorf("%s: %d %s, want %d %s", a.what, a.status, a.text, status, code)
	}
}

// field returns a member of the answer as text.
func (a answer) field(name string) string {
	a.t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.text), &all); err != nil {
		a.t.Fatalf("%s: %d %q: %v", a.what, a.status, a.text, err)
	}
	return strings.Trim(string(all[name]), `"`)
}

// key issues an API key with roles and returns its id and secret.
func (b *bed) key(credential, roles string) (id, secret string) {
	b.t.Helper()
	a := b.send("POST", "/v1/api-keys", `{"name":"k","roles":[`+roles+`]}`, credential).ok(201)
	return a.field("id"), a.field("secret")
}

// tenant makes a tenant and returns a key of its administrator.
func (b *bed) tenant(id string) (secret string) {
	b.t.Helper()
	b.send("POST", "/v1/tenants", `{"id":"`+id+`","name":"`+id+`"}`, b.root).ok(201)
	return b.send("POST", "/v1/tenants/"+id+"/api-keys", `{"name":"first","roles":["admin"]}`, b.root).ok(201).field("secret")
}

// signIn begins a session and returns its token.
func (b *bed) signIn(tenant, login, word string) answer {
	b.t.Helper()
	return b.send("POST", "/v1/sessions", `{"tenant":"`+tenant+`","login":"`+login+`","password":"`+word+`"}`, "")
}

// audited returns the entries of the outbox, in the form outcome action code.
func (b *bed) audited() (all []string) {
	b.t.Helper()
	for _, m := range b.messages() {
		if e, err := audit.Decode(m.Data); err == nil {
			all = append(all, strings.TrimSpace(strings.Join([]string{string(e.Outcome), e.Action, e.Tenant, e.Code}, " ")))
		}
	}
	return all
}

func (b *bed) wasAudited(want string) {
	b.t.Helper()
	if got := b.audited(); !slices.Contains(got, want) {
		b.t.Errorf("no audit entry %q among %q", want, got)
	}
}

// messages are all that was ever put into the outbox.
func (b *bed) messages() []repo.Message {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}
