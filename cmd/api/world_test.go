package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
)

// world is the whole program with authentication, on embedded parts, and who and
// what there is in it for the walks: two tenants, acme with things and rival
// without, keys of all sorts, and credentials that are no good.
type world struct {
	*app
	client      *http.Client
	root        string // platform administrator in the default tenant
	acme, rival string // administrators of their tenants
	keys        []heldKey
	bad         map[string]http.Header // by what is wrong with them
	codes       map[string]bool        // of all problems that were answered
}

// heldKey is a good key and what it may do.
type heldKey struct {
	name, secret string
	allowed      access.Set
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a, _ := startApp(t, "--auth-mode=required", "--limit-tenant-rate=0", "--limit-key-rate=0", "--model-control=none")
	w := &world{app: a, client: &http.Client{Timeout: 30 * time.Second}, codes: map[string]bool{}}
	t.Cleanup(w.client.CloseIdleConnections)
	secret, err := os.ReadFile(filepath.Join(a.cfg.DataDir, "bootstrap.key"))
	if err != nil {
		t.Fatal(err)
	}
	w.root = strings.TrimSpace(string(secret))
	w.acme, w.rival = w.tenant(t, "acme"), w.tenant(t, "rival")
	w.makeKeys(t)
	w.makeBad(t)
	return w
}

// tenant makes a tenant and a key of its administrator.
func (w *world) tenant(t *testing.T, id string) string {
	t.Helper()
	key, err := apikey.Generate(rand.Reader)
	if err == nil {
		err = w.node.Directory.CreateFirst(t.Context(), id, access.Admin, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key.Secret.Reveal()
}

// makeKeys makes a key for every role, and one for every permission alone.
func (w *world) makeKeys(t *testing.T) {
	t.Helper()
	add := func(by, name, role string, scopes ...access.Permission) {
		_, secret := w.issue(t, by, role, scopes...)
		w.keys = append(w.keys, heldKey{name, secret, w.node.Roles.Effective([]string{role}, scopes)})
	}
	for _, role := range w.node.Roles.Names() {
		by := w.acme
		if role == access.PlatformAdmin {
			by = w.root
		}
		add(by, "the role "+role, role)
	}
	for d := range w.node.Catalog.All() {
		by, role := w.acme, access.Admin
		if d.Platform {
			by, role = w.root, access.PlatformAdmin
		}
		add(by, "the scope "+string(d.Permission), role, d.Permission)
	}
}

// issue has an administrator make a key.
func (w *world) issue(t *testing.T, by, role string, scopes ...access.Permission) (id, secret string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"name": "walk", "roles": []string{role}, "scopes": append([]access.Permission{}, scopes...)})
	if err != nil {
		t.Fatal(err)
	}
	made := w.must(t, 201, "POST", "/v1/api-keys", string(body), by)
	return made["id"].(string), made["secret"].(string)
}

// makeBad makes every sort of credential that must not let anybody in.
func (w *world) makeBad(t *testing.T) {
	t.Helper()
	bearer := func(text string) http.Header { return http.Header{"Authorization": {"Bearer " + text}} }
	unknown, err := apikey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, good := w.issue(t, w.acme, access.Admin)

	id, expired := w.issue(t, w.acme, access.Admin)
	err = w.node.Store.Do(t.Context(), repo.Scope{Tenant: "acme", Actor: "walk"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := directory.Keys.Update(ctx, tx, directory.KeyID(id), func(k *directory.Key) error {
			k.Expires = time.Now().Add(-time.Hour)
			return nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	id, revoked := w.issue(t, w.acme, access.Admin)
	w.must(t, 204, "DELETE", "/v1/api-keys/"+id, "", w.acme, "If-Match", "*")
	suspended := w.tenant(t, "suspended")
	w.must(t, 200, "PATCH", "/v1/tenants/suspended", `{"suspended":true}`, w.root, "If-Match", "*")
	deleted := w.tenant(t, "deleted")
	w.must(t, 204, "DELETE", "/v1/tenants/deleted", "", w.root, "If-Match", "*")

	w.bad = map[string]http.Header{
		"malformed": bearer(good[:len(good)-1]), "altered": bearer(flipped(good)), "unknown": bearer(unknown.Secret.Reveal()),
		"expired": bearer(expired), "revoked": bearer(revoked), "suspended tenant": bearer(suspended), "deleted tenant": bearer(deleted),
		"x-api-key unknown": {"X-Api-Key": {unknown.Secret.Reveal()}},
		"no key":            bearer("eyJhbGciOiJub25lIn0.e30."), "basic": {"Authorization": {"Basic " + good}}, "scheme only": {"Authorization": {"Bearer"}},
		"two": {"Authorization": {"Bearer " + good}, "X-Api-Key": {good}}, "twice": {"Authorization": {"Bearer " + good, "Bearer " + good}},
	}
}

// alike are the bad credentials between which no answer may tell.
var alike = []string{"malformed", "altered", "unknown", "expired", "revoked", "suspended tenant", "deleted tenant", "x-api-key unknown"}

// flipped changes one character in the middle.
func flipped(key string) string {
	b := []byte(key)
	if b[len(b)/2]++; b[len(b)/2] > 'y' {
		b[len(b)/2] = 'a'
	}
	return string(b)
}

// send sends a request; credential is an API key or empty, headers are pairs.
func (w *world) send(t *testing.T, method, path, body, credential string, headers ...string) answer {
	t.Helper()
	h := http.Header{}
	if credential != "" {
		h.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return w.request(t, method, path, body, h)
}

func (w *world) request(t *testing.T, method, path, body string, h http.Header) answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+w.http.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = maps.Clone(h)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream := resp.Header.Get("Content-Type") == streamType
	if stream {
		defer time.AfterFunc(streamTime, cancel).Stop()
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil && !stream {
		t.Fatal(err)
	}
	if resp.Header.Get("Content-Type") == "application/problem+json" && len(data) > 0 {
		w.codes[codeOf(t, data)] = true
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// codeOf returns the code of a problem.
func codeOf(t *testing.T, body []byte) string {
	t.Helper()
	var p struct{ Code string }
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		t.Fatalf("a problem without a code: %s", body)
	}
	return p.Code
}

// must sends a request that has to succeed, and returns the body's members.
func (w *world) must(t *testing.T, status int, method, path, body, credential string, headers ...string) map[string]any {
	t.Helper()
	got := w.send(t, method, path, body, credential, headers...)
	if got.status != status {
		t.Fatalf("%s %s answers %d %s, want %d", method, path, got.status, got.body, status)
	}
	var members map[string]any
	if len(got.body) > 0 {
		if err := json.Unmarshal([]byte(got.body), &members); err != nil {
			t.Fatal(err)
		}
	}
	return members
}

// A stream has no end: it is read for as long as what was there at its beginning
// needs.
const (
	streamType = "text/event-stream"
	streamTime = 50 * time.Millisecond
)

var perRequest = regexp.MustCompile(`"(request_id|instance)":"[^"]*"`)

// shown is all that an answer tells, without what names the one request. What is
// in a stream comes when it comes.
func (a answer) shown() string {
	var b bytes.Buffer
	h := a.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Request-Id", "Content-Length"} {
		h.Del(name)
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		b.WriteString(name + ": " + strings.Join(h[name], ", ") + "\n")
	}
	if h.Get("Content-Type") == streamType {
		return b.String()
	}
	return b.String() + perRequest.ReplaceAllString(a.body, "")
}

var parameter = regexp.MustCompile(`:[a-z]+|\*`)

// at returns the route's path with a value for each parameter.
func at(r web.Route, value string) string { return parameter.ReplaceAllString(r.Path, value) }
