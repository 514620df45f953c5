package admin

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/identity/directory"
)

func TestLifeOfAUser(t *testing.T) {
	b := start(t)
	const body = `{"login":"jane.doe","password":"correct horse","roles":["viewer"]}`
	made := b.send("POST", "/v1/users", body, b.root).ok(201)
	path := "/v1/users/" + made.field("id")
	if strings.Contains(made.text, "argon2") || strings.Contains(made.text, "password") {
		t.Errorf("%s", made.text)
	}
	b.send("POST", "/v1/users", body, b.root).refused(409, "already_exists")
	b.send("POST", "/v1/users", `{"login":"joe","password":"short","roles":["viewer"]}`, b.root).refused(422, "validation_failed")
	in := b.signIn("default", "jane.doe", "correct horse").ok(201)
	token := in.field("token")
	me := b.send("GET", "/v1/me", "", token).ok(200)
	if me.field("subject") != made.field("id") || me.field("kind") != "user" || me.field("method") != "password" || me.field("credential") != in.field("key_id") {
		t.Errorf("%s", me.text)
	}
	b.wasAudited("ok sessions.create default")
	sessionPath := "/v1/api-keys/" + in.field("key_id")
	b.send("PATCH", sessionPath, `{"roles":["admin"],"scopes":[]}`, b.root, change, "*").refused(409, "key_is_session")
	b.send("POST", sessionPath+"/rotate", `{}`, b.root).refused(409, "key_is_session")
	b.send("PATCH", path, `{"roles":["admin"]}`, token, change, "*").refused(403, "permission_missing")

	// Every change ends the sessions from before.
	b.send("PATCH", path, `{"password":"battery staple"}`, b.root, change, "*").ok(200)
	b.send("GET", "/v1/me", "", token).refused(401, "api_key_unknown")
	b.signIn("default", "jane.doe", "correct horse").refused(401, "sign_in_failed")
	b.wasAudited("denied sessions.create default sign_in_failed")
	token = b.signIn("default", "jane.doe", "battery staple").ok(201).field("token")
	b.send("PATCH", path, `{"disabled":true}`, b.root, change, "*").ok(200)
	b.send("GET", "/v1/me", "", token).refused(401, "api_key_unknown")
	b.signIn("default", "jane.doe", "battery staple").refused(401, "sign_in_failed")
	b.send("PATCH", path, `{"disabled":false}`, b.root, change, "*").ok(200)
	token = b.signIn("default", "jane.doe", "battery staple").ok(201).field("token")
	b.send("DELETE", path, "", b.root, change, "*").ok(204)
	b.send("GET", "/v1/me", "", token).refused(401, "api_key_unknown")
	b.signIn("default", "jane.doe", "battery staple").refused(401, "sign_in_failed")
	b.send("POST", path+"/restore", "", b.root).ok(200)
	b.send("GET", "/v1/me", "", token).refused(401, "api_key_unknown")
	b.signIn("default", "jane.doe", "battery staple").ok(201)
}

// Strangers cannot fill the audit log, nor learn by time who is known.
func TestSignInOfStrangers(t *testing.T) {
	b := start(t)
	before := len(b.audited())
	for _, tenant := range []string{"default", "no-such", "../x", "a\\u0000b"} {
		began := time.Now()
		b.signIn(tenant, "nobody", "whatever it is").refused(401, "sign_in_failed")
		if took := time.Since(began); took < failTime {
			t.Errorf("%s: answered after %s", tenant, took)
		}
	}
	if after := b.audited(); len(after) != before {
		t.Errorf("audited: %q", after[before:])
	}
	b.signIn("default", "", "x").refused(422, "validation_failed")
}

func TestSelfService(t *testing.T) {
	b := start(t)
	b.send("POST", "/v1/users", `{"login":"jane.doe","password":"correct horse","roles":["viewer"]}`, b.root).ok(201)
	token := b.signIn("default", "jane.doe", "correct horse").ok(201).field("token")
	another := b.signIn("default", "jane.doe", "correct horse").ok(201).field("token")
	b.send("PUT", "/v1/me/password", `{"current_password":"wrong horse","new_password":"battery staple"}`, token).refused(401, "sign_in_failed")
	b.send("PUT", "/v1/me/password", `{"current_password":"correct horse","new_password":"short"}`, token).refused(422, "validation_failed")
	b.send("PUT", "/v1/me/password", `{"current_password":"x","new_password":"battery staple"}`, b.root).refused(409, "no_session")
	b.send("PUT", "/v1/me/password", `{"current_password":"correct horse","new_password":"battery staple"}`, token).ok(204)
	b.wasAudited("ok users.set_password default")
	for _, s := range []string{token, another} {
		b.send("GET", "/v1/me", "", s).refused(401, "api_key_unknown")
	}
	token = b.signIn("default", "jane.doe", "battery staple").ok(201).field("token")
	another = b.signIn("default", "jane.doe", "battery staple").ok(201).field("token")
	b.send("DELETE", "/v1/me/session", "", b.root).refused(409, "no_session")
	b.send("DELETE", "/v1/me/session", "", token).ok(204)
	b.send("GET", "/v1/me", "", token).refused(401, "api_key_unknown")
	b.send("GET", "/v1/me", "", another).ok(200)

	for path, want := range map[string]string{"/v1/roles": `"name":"platform_admin"`, "/v1/permissions": `"permission":"audit_log:read"`} {
		if got := b.send("GET", path, "", another).ok(200); !strings.Contains(got.text, want) {
			t.Errorf("%s: %s", path, got.text)
		}
		b.send("GET", path, "", "").refused(401, "credential_missing")
	}
}

func TestLifeOfATenant(t *testing.T) {
	b := start(t)
	acme := b.tenant("acme")
	b.wasAudited("ok tenants.issue_key acme")
	b.send("POST", "/v1/tenants", `{"id":"acme","name":"again"}`, b.root).refused(409, "already_exists")
	for _, id := range []string{"", "A", "a/b", "..", "a b", strings.Repeat("a", 65)} {
		b.send("POST", "/v1/tenants", `{"id":"`+id+`","name":"x"}`, b.root).refused(422, "validation_failed")
	}
	b.send("POST", "/v1/tenants/no-such/api-keys", `{"name":"x","roles":["admin"]}`, b.root).refused(404, "not_found")
	b.send("GET", "/v1/me", "", acme).ok(200)
	b.send("PATCH", "/v1/tenants/acme", `{"suspended":true}`, b.root, change, "*").ok(200)
	b.send("GET", "/v1/me", "", acme).refused(401, "api_key_unknown")
	b.send("PATCH", "/v1/tenants/acme", `{"suspended":false}`, b.root, change, "*").ok(200)
	b.send("GET", "/v1/me", "", acme).ok(200)
	b.send("DELETE", "/v1/tenants/acme", "", b.root, change, "*").ok(204)
	b.send("GET", "/v1/me", "", acme).refused(401, "api_key_unknown")
	b.send("POST", "/v1/tenants/acme/restore", "", b.root).ok(200)
	b.send("GET", "/v1/me", "", acme).ok(200)
	// Nobody shuts themselves out.
	b.send("PATCH", "/v1/tenants/default", `{"suspended":true}`, b.root, change, "*").refused(409, "own_tenant")
	b.send("DELETE", "/v1/tenants/default", "", b.root, change, "*").refused(409, "own_tenant")
	b.send("PATCH", "/v1/tenants/default", `{"name":"Main"}`, b.root, change, "*").ok(200)
}

func TestFlagsAndWebhooks(t *testing.T) {
	b := start(t)
	b.send("POST", "/v1/feature-flags", `{"key":"beta","enabled":true,"percent":10}`, b.root).ok(201)
	got := b.send("PATCH", "/v1/feature-flags/beta", `{"percent":20}`, b.root, change, `"1"`).ok(200)
	if got.field("enabled") != "true" || got.field("percent") != "20" {
		t.Errorf("%s", got.text)
	}
	if got := b.send("PATCH", "/v1/feature-flags/beta", `{"enabled":false}`, b.root, change, "*").ok(200); got.field("percent") != "20" || got.field("enabled") != "false" {
		t.Errorf("%s", got.text)
	}
	b.send("PATCH", "/v1/feature-flags/beta", `{"percent":101}`, b.root, change, "*").refused(422, "validation_failed")
	b.send("DELETE", "/v1/feature-flags/beta", "", b.root, change, "*").ok(204)
	b.send("POST", "/v1/feature-flags/beta/restore", "", b.root).ok(200)
	hook := b.send("POST", "/v1/webhook-endpoints", `{"url":"https://example.com/x","events":["batch.*"]}`, b.root).ok(201)
	path := "/v1/webhook-endpoints/" + hook.field("id")
	for body, code := range map[string]string{
		`{"url":"http://example.com/"}`: "webhook_url_invalid", `{"url":"https://u:p@example.com/"}`: "webhook_url_invalid", `{"url":"file:///etc/passwd"}`: "webhook_url_invalid",
		`{"events":["x y"]}`: "event_type_malformed", `{"events":[]}`: "validation_failed", `{"secrets":["mine"]}`: "validation_failed", `{"id":"whk_1"}`: "validation_failed",
	} {
		b.send("PATCH", path, body, b.root, change, "*").refused(422, code)
	}
	if got := b.send("PATCH", path, `{"disabled":true}`, b.root, change, "*").ok(200); got.field("url") != "https://example.com/x" || got.field("disabled") != "true" || got.field("secret") != "" {
		t.Errorf("%s", got.text)
	}
}

// Witnesses and auditors read the log over HTTP, and a copy of it verifies.
func TestTheLogIsServed(t *testing.T) {
	b := start(t)
	acme := b.tenant("acme")
	b.send("POST", "/v1/feature-flags", `{"key":"beta"}`, acme).ok(201)
	var list answer
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if list = b.send("GET", "/v1/audit-entries?filter=action:eq:feature_flags.create", "", acme).ok(200); strings.Contains(list.text, "evt_") {
			break
		}
	}
	var page struct{ Data []EntryView }
	if err := json.Unmarshal([]byte(list.text), &page); err != nil || len(page.Data) != 1 {
		t.Fatalf("%s: %v", list.text, err)
	}
	path := "/v1/audit-entries/" + page.Data[0].ID
	text := b.send("GET", path+"/proof", "", acme).ok(200)
	leaf := b.send("GET", path+"/leaf", "", acme).ok(200)
	var proof audit.Proof
	if err := proof.UnmarshalText([]byte(text.text)); err != nil {
		t.Fatal(err)
	}
	proof.Leaf = []byte(leaf.text)
	if e, _, err := proof.Check(b.signer.Public()); err != nil || e.ID != page.Data[0].ID || e.Tenant != "acme" {
		t.Errorf("%+v, %v", e, err)
	}
	b.send("GET", path+"/proof", "", b.root).refused(404, "not_found") // another tenant's

	checkpoint := b.send("GET", "/v1/audit-log/checkpoint", "", b.root).ok(200)
	c, err := audit.ParseCheckpoint([]byte(checkpoint.text), b.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	replica := fstest.MapFS{"checkpoint": {Data: []byte(checkpoint.text)}}
	for _, name := range []string{"tile/0/000.p/", "tile/entries/000.p/"} {
		name += strconv.FormatInt(c.Size, 10)
		tile := b.send("GET", "/v1/audit-log/"+name, "", b.root).ok(200)
		if tile.header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(tile.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %v", name, tile.header)
		}
		replica[name] = &fstest.MapFile{Data: []byte(tile.text)}
	}
	report, err := audit.Verify(t.Context(), fs.FS(replica), audit.Trust{Keys: []audit.PublicKey{b.signer.Public()}})
	if err != nil || !report.OK() || report.Entries != c.Size {
		t.Errorf("%+v, %v", report, err)
	}
	for _, name := range []string{"tile/0/999", "tile/0/000.p/0", "tile/0/000.p/256", "tile/64/000", "tile/00/000", "pending", "tile/../pending", "tile/%2e%2e/pending", "tile/0/000/", "tile/data/000", "tile/0/000%00"} {
		if got := b.send("GET", "/v1/audit-log/"+name, "", b.root); got.status != 404 {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
}

func TestTheDocumentIsValid(t *testing.T) {
	b := start(t)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(b.send("GET", "/v1/openapi.json", "", "").ok(200).text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.DisableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

// What a body says more, or in another way, than it may is refused.
func TestBodies(t *testing.T) {
	b := start(t)
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, body := range map[string]string{
		"twice": `{"key":"a","key":"b"}`, "deep": `{"key":` + deep + `}`, "null": `null`, "list": `[]`, "text": `"x"`, "nothing": ``, "trailing": `{"key":"a"}{"key":"b"}`,
		"other case": `{"Key":"a"}`, "version": `{"key":"a","version":7}`, "created_by": `{"key":"a","created_by":"me"}`, "wrong type": `{"key":{"$ne":1}}`, "not UTF-8": "{\"key\":\"\xff\"}",
		"huge number": `{"key":"a","percent":1e400}`, "line": `{"key":"a\nb"}`, "dots": `{"key":"../../x"}`,
	} {
		if got := b.send("POST", "/v1/feature-flags", body, b.root); got.status != 400 && got.status != 422 && name != "twice" {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		} else if name == "twice" && got.status >= 300 && got.status != 400 && got.status != 422 {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	for _, match := range []string{`"`, `7`, `"x"`, `W/"1"`, `"1","2"`, `"-1"`, `"99999999999999999999"`, `,`, strings.Repeat(`"1",`, 1000)} {
		if got := b.send("PATCH", "/v1/tenants/default", `{"name":"x"}`, b.root, change, match); got.status != 400 && got.status != 412 {
			t.Errorf("If-Match %.40s: %d %s", match, got.status, got.text)
		}
	}
	for _, query := range []string{"cursor=AAAA", "cursor=%00", "filter=name:eq:%27%20OR%201%3D1--", "filter=name:prefix:%25", "filter=doc:eq:1", "filter=id:eq:1", "order=doc", "order=name%20desc", "order=--name", "limit=-1", "limit=1e9", "limit=501", "deleted=x", "x=1", "filter=" + strings.Repeat("a", 10_000)} {
		if got := b.send("GET", "/v1/tenants?"+query, "", b.root); got.status >= 500 || got.status == 200 && strings.Contains(got.text, `"id":"default"`) {
			t.Errorf("%.60s: %d %s", query, got.status, got.text)
		}
	}
	if strings.Contains(b.log.text(), "panic") {
		t.Errorf("%s", b.log.text())
	}
}

// A password that was changed since it was checked is not changed by that check.
func TestPasswordIsChangedOnce(t *testing.T) {
	b := start(t)
	id := b.send("POST", "/v1/users", `{"login":"jane.doe","password":"correct horse","roles":["viewer"]}`, b.root).ok(201).field("id")
	who := access.Principal{Tenant: "default", Subject: id, Permissions: access.SetOf(selfUse)}
	u := directory.User{Password: "another"}
	u.ID = directory.UserID(id)
	if _, err := cqrs.Send(access.With(t.Context(), &who), b.bus, setPassword{user: &u, hashed: "mine"}); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("got %v", err)
	}
	b.signIn("default", "jane.doe", "correct horse").ok(201)
}
