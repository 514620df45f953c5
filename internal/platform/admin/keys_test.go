package admin

import (
	"strings"
	"sync"
	"testing"
	"time"
)

const change = "If-Match"

func TestLifeOfAKey(t *testing.T) {
	b := start(t)
	made := b.send("POST", "/v1/api-keys", `{"name":"ci","roles":["viewer"],"scopes":["feature_flags:read"]}`, b.root).ok(201)
	id, secret, path := made.field("id"), made.field("secret"), "/v1/api-keys/"+made.field("id")
	if made.header.Get("Location") != path || !strings.HasPrefix(id, "key_") || !strings.HasPrefix(secret, "slc_live_") || made.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %v", made.text, made.header)
	}
	me := b.send("GET", "/v1/me", "", secret).ok(200)
	if me.field("subject") != id || me.field("tenant") != "default" || me.field("permissions") != `["feature_flags:read","self:use"]` {
		t.Errorf("me: %s", me.text)
	}
	b.send("GET", "/v1/feature-flags", "", secret).ok(200)
	b.send("GET", "/v1/webhook-endpoints", "", secret).refused(403, "permission_missing") // a role's, but not in scope
	renamed := b.send("PATCH", path, `{"name":"cd"}`, b.root, change, made.header.Get("ETag")).ok(200)
	if renamed.field("name") != "cd" || renamed.field("roles") != `["viewer"]` || renamed.field("scopes") != `["feature_flags:read"]` {
		t.Errorf("what was left out did not stay: %s", renamed.text)
	}
	b.send("PATCH", path, `{"roles":["operator"]}`, b.root, change, "*").refused(422, "roles_without_scopes")
	b.send("PATCH", path, `{"name":"x"}`, b.root, change, made.header.Get("ETag")).refused(412, "version_mismatch")
	b.send("PATCH", path, `{"name":"x"}`, b.root).refused(428, "precondition_required")
	if same := b.send("PATCH", path, `{"name":"cd"}`, b.root, change, "*").ok(200); same.header.Get("ETag") != renamed.header.Get("ETag") {
		t.Errorf("a change of nothing: %v", same.header)
	}
	b.send("PATCH", path, `{"roles":["operator"],"scopes":[]}`, b.root, change, "*").ok(200)
	b.send("GET", "/v1/webhook-endpoints", "", secret).ok(200) // at once
	b.send("DELETE", path, "", b.root, change, "*").ok(204)
	b.send("GET", "/v1/me", "", secret).refused(401, "api_key_unknown") // at once
	b.send("GET", path, "", b.root).refused(404, "not_found")
	b.send("POST", path+"/restore", "", b.root).refused(409, "key_revoked")
	b.send("GET", "/v1/me", "", secret).refused(401, "api_key_unknown")
	b.send("POST", path+"/rotate", `{}`, b.root).refused(404, "not_found")
}

func TestRotationOfAKey(t *testing.T) {
	b := start(t)
	id, first := b.key(b.root, `"viewer"`)
	path := "/v1/api-keys/" + id + "/rotate"
	rotated := b.send("POST", path, `{}`, b.root).ok(200)
	second := rotated.field("secret")
	for _, s := range []string{first, second} {
		b.send("GET", "/v1/me", "", s).ok(200)
	}
	if n := strings.Count(rotated.field("secrets"), "hint"); n != 2 {
		t.Errorf("%d secrets: %s", n, rotated.text)
	}
	b.send("POST", path, `{"overlap_seconds":60}`, b.root).refused(409, "too_many")
	for _, body := range []string{`{"overlap_seconds":-1}`, `{"overlap_seconds":2592001}`, `{"overlap_seconds":1.5}`, `{"secret":"mine"}`} {
		b.send("POST", path, body, b.root).refused(422, "validation_failed")
	}
	third := b.send("POST", path, `{"overlap_seconds":0}`, b.root).ok(200).field("secret")
	for _, s := range []string{first, second} {
		b.send("GET", "/v1/me", "", s).refused(401, "api_key_expired")
	}
	b.send("GET", "/v1/me", "", third).ok(200)
}

// A secret is in one answer, and nowhere else: not in what is read, listed,
// sent again, audited, published or logged.
func TestSecretsAreShownOnce(t *testing.T) {
	b := start(t)
	var secrets []string
	for path, body := range map[string]string{"/v1/api-keys": `{"name":"k","roles":["viewer"]}`, "/v1/webhook-endpoints": `{"url":"https://example.com/","events":["*"]}`} {
		made := b.send("POST", path, body, b.root, "Idempotency-Key", "once").ok(201)
		secret := made.field("secret")
		if len(secret) < 40 {
			t.Fatalf("%s: %s", path, made.text)
		}
		secrets = append(secrets, secret)
		b.send("POST", path, body, b.root, "Idempotency-Key", "once").refused(409, "answer_not_kept")
		for _, again := range []answer{
			b.send("GET", path, "", b.root), b.send("GET", path+"/"+made.field("id"), "", b.root),
			b.send("PATCH", path+"/"+made.field("id"), `{}`, b.root, change, "*"), b.send("GET", path+"?filter=url:eq:"+secret, "", b.root),
		} {
			if strings.Contains(again.text, secret) {
				t.Errorf("%s: %s", again.what, again.text)
			}
		}
	}
	b.send("POST", "/v1/users", `{"login":"jane.doe","password":"correct horse","roles":["viewer"]}`, b.root).ok(201)
	secrets = append(secrets, "correct horse", b.signIn("default", "jane.doe", "correct horse").ok(201).field("token"))
	b.signIn("default", "jane.doe", "wrong battery").refused(401, "sign_in_failed")
	secrets = append(secrets, "wrong battery", b.root)
	for _, m := range b.messages() {
		for _, s := range append(secrets, "jane.doe") {
			if strings.Contains(string(m.Data), s) {
				t.Errorf("%s holds %q: %s", m.Type, s, m.Data)
			}
		}
	}
	for _, s := range secrets {
		if strings.Contains(b.log.text(), s) {
			t.Errorf("the log holds %q", s)
		}
	}
}

// Nobody gets more rights than they have, by whichever way.
func TestNoEscalation(t *testing.T) {
	b := start(t)
	rootID := b.send("GET", "/v1/me", "", b.root).ok(200).field("subject")
	adminID, admin := b.key(b.root, `"admin"`)
	issuer := b.send("POST", "/v1/api-keys", `{"name":"issuer","roles":["admin"],"scopes":["api_keys:read","api_keys:write","feature_flags:read"]}`, b.root).ok(201).field("secret")
	strong := b.send("POST", "/v1/users", `{"login":"root","password":"rootrootroot","roles":["platform_admin"]}`, b.root).ok(201).field("id")
	for name, a := range map[string]answer{
		"a key with a greater role":       b.send("POST", "/v1/api-keys", `{"name":"x","roles":["platform_admin"]}`, admin),
		"a key beyond one's scopes":       b.send("POST", "/v1/api-keys", `{"name":"x","roles":["viewer"]}`, issuer),
		"raising one's own key":           b.send("PATCH", "/v1/api-keys/"+adminID, `{"roles":["platform_admin"],"scopes":[]}`, admin, change, "*"),
		"dropping scopes":                 b.send("PATCH", "/v1/api-keys/"+adminID, `{"roles":["admin"],"scopes":[]}`, issuer, change, "*"),
		"rotating a stronger key":         b.send("POST", "/v1/api-keys/"+rootID+"/rotate", `{}`, admin),
		"rotating beyond one's scopes":    b.send("POST", "/v1/api-keys/"+adminID+"/rotate", `{}`, issuer),
		"a user with a greater role":      b.send("POST", "/v1/users", `{"login":"x","password":"xxxxxxxx","roles":["platform_admin"]}`, admin),
		"the password of a stronger user": b.send("PATCH", "/v1/users/"+strong, `{"password":"xxxxxxxx"}`, admin, change, "*"),
		"disabling a stronger user":       b.send("PATCH", "/v1/users/"+strong, `{"disabled":true}`, admin, change, "*"),
		"scope of the platform":           b.send("POST", "/v1/api-keys", `{"name":"x","roles":["admin","platform_admin"],"scopes":["tenants:write"]}`, admin),
	} {
		t.Run(name, func(t *testing.T) { a.refused(403, "grant_exceeds_own") })
	}
	b.wasAudited("denied api_keys.create default grant_exceeds_own")
	b.wasAudited("denied api_keys.rotate default grant_exceeds_own")
	b.wasAudited("denied users.change default grant_exceeds_own")
	b.signIn("default", "root", "rootrootroot").ok(201)
	b.send("GET", "/v1/me", "", b.root).ok(200)

	// To take away is allowed, and to bring back what is stronger is not.
	b.send("DELETE", "/v1/users/"+strong, "", admin, change, "*").ok(204)
	b.send("POST", "/v1/users/"+strong+"/restore", "", admin).refused(403, "grant_exceeds_own")
	b.send("GET", "/v1/users/"+strong, "", b.root).refused(404, "not_found")
	b.send("POST", "/v1/users/"+strong+"/restore", "", b.root).ok(200)
	for body, code := range map[string]string{
		`{"name":"x","roles":["no_role"]}`:                                    "role_unknown",
		`{"name":"x","roles":["viewer"],"scopes":["no:such"]}`:                "permission_unknown",
		`{"name":"x","roles":["viewer"],"expires_at":"2020-01-01T00:00:00Z"}`: "expired_already",
		`{"name":"a\u0000b","roles":["viewer"]}`:                              "validation_failed",
		`{"name":"a\r\nb","roles":["viewer"]}`:                                "validation_failed",
		`{"name":"x","roles":[]}`:                                             "validation_failed",
		`{"name":"x","roles":["viewer"],"subject":"usr_1"}`:                   "validation_failed",
		`{"name":"x","roles":["viewer"],"tenant":"other"}`:                    "validation_failed",
		`{"name":"x","roles":["viewer"],"id":"key_1"}`:                        "validation_failed",
		`{"name":"x","roles":["viewer"],"secrets":[]}`:                        "validation_failed",
	} {
		b.send("POST", "/v1/api-keys", body, b.root).refused(422, code)
	}
}

// A tenant's things are nobody else's, whoever asks.
func TestTenantsSeeTheirOwnOnly(t *testing.T) {
	b := start(t)
	acme, other := b.tenant("acme"), b.tenant("other")
	id, secret := b.key(acme, `"viewer"`)
	for _, who := range []string{other, b.root} {
		b.send("GET", "/v1/api-keys/"+id, "", who).refused(404, "not_found")
		b.send("PATCH", "/v1/api-keys/"+id, `{"name":"x"}`, who, change, "*").refused(404, "not_found")
		b.send("DELETE", "/v1/api-keys/"+id, "", who, change, "*").refused(404, "not_found")
		b.send("POST", "/v1/api-keys/"+id+"/rotate", `{}`, who).refused(404, "not_found")
		if list := b.send("GET", "/v1/api-keys", "", who).ok(200); strings.Contains(list.text, id) {
			t.Errorf("listed: %s", list.text)
		}
	}
	if me := b.send("GET", "/v1/me", "", secret).ok(200); me.field("tenant") != "acme" {
		t.Errorf("%s", me.text)
	}
	for _, who := range []string{acme, other} {
		b.send("GET", "/v1/tenants", "", who).refused(403, "permission_missing")
		b.send("POST", "/v1/tenants/acme/api-keys", `{"name":"x","roles":["viewer"]}`, who).refused(403, "permission_missing")
		b.send("GET", "/v1/audit-log/checkpoint", "", who).refused(403, "permission_missing")
	}
	// A cursor of one tenant says nothing to another.
	for range 3 {
		b.key(acme, `"viewer"`)
	}
	cursor := b.send("GET", "/v1/api-keys?limit=1", "", acme).ok(200).field("next_cursor")
	if got := b.send("GET", "/v1/api-keys?limit=50&cursor="+cursor, "", other); got.status == 200 && strings.Contains(got.text, id) {
		t.Errorf("another's cursor: %s", got.text)
	}
}

// A key that is revoked while it is used is refused from then on, whatever is on
// its way.
func TestRevocationWhileInUse(t *testing.T) {
	b := start(t)
	id, secret := b.key(b.root, `"viewer"`)
	var all sync.WaitGroup
	revoked := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for late := 0; late < 5; {
				after := false
				select {
				case <-revoked:
					after = true
					late++
				default:
				}
				if got := b.send("GET", "/v1/me", "", secret); after && got.status != 401 {
					t.Errorf("after the revocation: %d", got.status)
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // some requests are on their way; any number will do
	b.send("DELETE", "/v1/api-keys/"+id, "", b.root, change, "*").ok(204)
	close(revoked)
	all.Wait()
}

func TestIdsAreOnlyIds(t *testing.T) {
	b := start(t)
	for _, id := range []string{"%2e%2e", "..%2f..%2fetc", "a%00b", "%ff%fe", strings.Repeat("k", 255), "%E2%80%AE", "%0d%0aX-Evil:%201", "'%20OR%201=1--", "key_%", "*"} {
		for _, kind := range []string{"api-keys", "users", "tenants", "feature-flags", "webhook-endpoints", "audit-entries"} {
			if strings.HasSuffix(id, "%") {
				continue // no URL
			}
			got := b.send("GET", "/v1/"+kind+"/"+id, "", b.root)
			if got.status < 400 || got.status >= 500 || got.header.Get("X-Evil") != "" {
				t.Errorf("%s: %d %s", got.what, got.status, got.text)
			}
			del := b.send("DELETE", "/v1/"+kind+"/"+id, "", b.root, change, "*")
			if del.status < 400 || del.status >= 500 {
				t.Errorf("%s: %d %s", del.what, del.status, del.text)
			}
		}
	}
	for _, m := range b.messages() {
		if strings.ContainsAny(string(m.Data), "\r\n") || strings.Contains(string(m.Data), "X-Evil") {
			t.Errorf("a made-up id came into the audit: %s", m.Data)
		}
	}
	if strings.Contains(b.log.text(), "level=ERROR") {
		t.Errorf("errors were logged: %s", b.log.text())
	}
}
