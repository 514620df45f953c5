package directory

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

func TestAKeyOpens(t *testing.T) {
	b := newBed(t)
	k := b.issue("key_1", func(k *Key) { k.Roles, k.Scopes = []string{access.Operator}, []access.Permission{"jobs:run"} })
	p, err := b.keys.Verify(t.Context(), k.Secret.Reveal())
	if err != nil || p.Tenant != acme || p.Subject != "key_1" || p.Credential != "key_1" || !p.Permissions.Equal(access.SetOf("jobs:run", "self:use")) {
		t.Errorf("%+v, %v", p, err)
	}
	b.expect("another secret", b.generate().Secret, "api_key_unknown")
}

// During the overlap both secrets are good, from its end on only the new one.
func TestRotation(t *testing.T) {
	b := newBed(t)
	first := b.issue("key_1", nil)
	second, err := b.rotate("key_1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("old within the overlap", first.Secret, "key_1")
	b.expect("new within the overlap", second.Secret, "key_1")
	if third, err := b.rotate("key_1", time.Hour); fault.CodeOf(err) != "too_many" {
		t.Errorf("a third secret: %v", err)
	} else {
		b.expect("refused secret", third.Secret, "api_key_unknown")
	}
	b.clock.move(time.Hour - time.Microsecond)
	b.expect("old at the last moment", first.Secret, "key_1")
	b.clock.move(time.Microsecond)
	b.expect("old at the end", first.Secret, "api_key_expired")
	b.expect("new at the end", second.Secret, "key_1")
	if _, err := b.rotate("key_1", time.Hour); err != nil {
		t.Errorf("after the overlap: %v", err)
	}
}

// A secret that leaked is ended at once, also amid a rotation.
func TestRotationWithoutOverlap(t *testing.T) {
	b := newBed(t)
	first := b.issue("key_1", nil)
	second, err := b.rotate("key_1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("first", first.Secret, "key_1") // and the cache knows it
	b.expect("second", second.Secret, "key_1")
	third, err := b.rotate("key_1", 0)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("first", first.Secret, "api_key_expired")
	b.expect("second", second.Secret, "api_key_expired")
	b.expect("third", third.Secret, "key_1")
}

// A later rotation never lets an old secret live longer than was said.
func TestOverlapOnlyShrinks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var k Key
		ends := map[string]time.Time{} // by hint
		made := newBed(t).generate()
		for i := range rapid.IntRange(1, 12).Draw(rt, "rotations") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "pause")) * time.Minute)
			overlap := now.Add(time.Duration(rapid.IntRange(-10, 60).Draw(rt, "overlap")) * time.Minute)
			made.Hint = strings.Repeat("x", i+1)
			err := k.Issue(made, now, overlap)
			good := 0
			for _, s := range k.Secrets {
				if !ending(s.Expires, now) {
					good++
				}
				if end, known := ends[s.Hint]; known && !end.IsZero() && (s.Expires.IsZero() || s.Expires.After(end)) {
					rt.Fatalf("secret %s lives until %s instead of %s", s.Hint, s.Expires, end)
				}
				ends[s.Hint] = s.Expires
			}
			newest := k.Secrets[len(k.Secrets)-1]
			if good > maxSecrets || err == nil && (newest.Hint != made.Hint || !newest.Expires.IsZero()) {
				rt.Fatalf("%d good secrets, %+v, %v", good, k.Secrets, err)
			}
		}
	})
}

func TestExpiry(t *testing.T) {
	b := newBed(t)
	k := b.issue("key_1", func(k *Key) { k.Expires = b.clock.now().Add(time.Minute) })
	b.expect("before", k.Secret, "key_1")
	b.clock.move(time.Minute)
	b.expect("after", k.Secret, "api_key_expired")
}

// What this process changes, its cache forgets at once.
func TestRevocationAtOnce(t *testing.T) {
	b := newBed(t)
	k, other := b.issue("key_1", nil), b.issue("key_2", nil)
	b.expect("before", k.Secret, "key_1")
	b.expect("another before", other.Secret, "key_2")
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Keys.Delete(ctx, tx, "key_1") })
	b.expect("revoked", k.Secret, "api_key_unknown")
	b.expect("another", other.Secret, "key_2")

	b.do(func(ctx context.Context, tx *repo.Tx) error {
		_, err := Keys.Update(ctx, tx, "key_2", func(k *Key) error { k.Set(k.Name, []string{access.Operator}, nil); return nil })
		return err
	})
	if p, err := b.keys.Verify(t.Context(), other.Secret.Reveal()); err != nil || !p.Can("jobs:run") {
		t.Errorf("a role came late: %+v, %v", p, err)
	}
}

func TestTenantsAreLetInOrNot(t *testing.T) {
	b := newBed(t)
	k := b.issue("key_1", nil)
	admitted := func(tenant, code string) {
		t.Helper()
		if err := b.Admit(t.Context(), tenant); code == "" && err != nil || code != "" && fault.CodeOf(err) != code {
			t.Errorf("%s: %v, want %q", tenant, err, code)
		}
	}
	b.expect("active", k.Secret, "key_1")
	admitted(acme, "")
	admitted("nobody", "tenant_unknown")
	b.suspend(true)
	b.expect("suspended", k.Secret, "api_key_unknown")
	admitted(acme, "tenant_unknown")
	b.suspend(false)
	b.expect("let in again", k.Secret, "key_1")
	admitted(acme, "")
	err := b.store.Do(t.Context(), platform("key_root"), func(ctx context.Context, tx *repo.Tx) error { return Tenants.Delete(ctx, tx, acme) })
	if err != nil {
		t.Fatal(err)
	}
	b.expect("deleted", k.Secret, "api_key_unknown")
	admitted(acme, "tenant_unknown")
}

// Another process learns of a suspension when its answers have aged.
func TestAdmissionAges(t *testing.T) {
	b := newBed(t)
	far := New(repo.New(b.store.Driver(), repo.Config{Now: b.clock.now}), nil)
	if err := far.Admit(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	err := b.store.Do(t.Context(), platform("key_root"), func(ctx context.Context, tx *repo.Tx) error { return Tenants.Delete(ctx, tx, acme) })
	if err != nil {
		t.Fatal(err)
	}
	if err := far.Admit(t.Context(), acme); err != nil {
		t.Errorf("remembered for no time: %v", err)
	}
	b.clock.move(admitTime)
	if err := far.Admit(t.Context(), acme); fault.CodeOf(err) != "tenant_unknown" {
		t.Errorf("got %v", err)
	}
}

// A process may die at any point: an index entry without its secret opens
// nothing, and the same step can be done again.
func TestIndexBeforeKey(t *testing.T) {
	b := newBed(t)
	made := b.generate()
	for range 2 { // announcing again is no error
		if err := b.Announce(t.Context(), acme, "key_1", made, time.Time{}); err != nil {
			t.Fatal(err)
		}
		b.expect("announced only", made.Secret, "api_key_unknown")
	}
	first := b.issue("key_1", nil)
	b.expect("announced for a key with another secret", made.Secret, "api_key_unknown")
	b.expect("the key's own", first.Secret, "key_1")
	b.keys.Invalidate(made.Hash)
	b.do(func(ctx context.Context, tx *repo.Tx) error {
		_, err := Keys.Update(ctx, tx, "key_1", func(k *Key) error { return k.Issue(made, tx.Now(), tx.Now().Add(time.Hour)) })
		return err
	})
	b.expect("issued after all", made.Secret, "key_1")
}

// Neither records nor events have a secret, and the hash opens nothing.
func TestSecretsAreNotStored(t *testing.T) {
	b := newBed(t)
	made := b.issue("key_1", func(k *Key) { k.Fresh = b.generate().Secret })
	k, err := Keys.Get(t.Context(), b.Reading(acme), "key_1")
	if err != nil || !k.Fresh.IsZero() {
		t.Fatal(k, err)
	}
	doc, err := json.Marshal(k)
	if err != nil || strings.Contains(string(doc), made.Secret.Reveal()) || !strings.Contains(string(doc), made.Hash.String()) {
		t.Errorf("%s, %v", doc, err)
	}
	messages, err := b.store.Driver().Pending(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if strings.Contains(string(m.Data), "slc_live") || strings.Contains(string(m.Data), made.Hash.String()) {
			t.Errorf("event %s: %s", m.Type, m.Data)
		}
	}
	if _, err := b.keys.Verify(t.Context(), made.Hash.String()); fault.CodeOf(err) != "api_key_malformed" {
		t.Errorf("the hash as a key: %v", err)
	}
}

// Whatever is asked for, nobody hands out more than they hold themselves.
func TestGrantsStayWithinOnesOwn(t *testing.T) {
	b := newBed(t)
	names := rapid.SampledFrom(append(b.roles.Names(), "no_role"))
	scope := rapid.SampledFrom([]access.Permission{"jobs:read", "jobs:run", "tenants:write", "self:use", "jobs:*", "*:*", ""})
	rapid.Check(t, func(rt *rapid.T) {
		p := &access.Principal{Permissions: b.roles.Effective(rapid.SliceOfN(names, 0, 3).Draw(rt, "own roles"), rapid.SliceOfN(scope, 0, 3).Draw(rt, "own scopes"))}
		roles, scopes := rapid.SliceOfN(names, 0, 3).Draw(rt, "roles"), rapid.SliceOfN(scope, 0, 3).Draw(rt, "scopes")
		err := Grant(b.roles, p, roles, scopes)
		within := b.roles.Effective(roles, scopes).Within(p.Permissions)
		switch code := fault.CodeOf(err); {
		case err == nil && !within:
			rt.Fatalf("%v with %v was granted by who holds %v", roles, scopes, p.Permissions.List())
		case err != nil && code == "grant_exceeds_own" && within:
			rt.Fatalf("%v with %v was refused to who holds %v", roles, scopes, p.Permissions.List())
		case err != nil && code != "grant_exceeds_own" && code != "role_unknown" && code != "permission_unknown":
			rt.Fatal(err)
		}
	})
}

// Of several nodes that start at once one makes the first key, also where it was
// revoked before.
func TestTheFirstKeyIsMadeOnce(t *testing.T) {
	b := newBed(t)
	done := make(chan error)
	for range 8 {
		made := b.generate()
		go func() { done <- b.CreateFirst(context.Background(), "default", access.PlatformAdmin, made) }()
	}
	won := 0
	for range 8 {
		if err := <-done; err == nil {
			won++
		} else if !fault.Is(err, fault.Conflict) {
			t.Error(err)
		}
	}
	if n, err := b.Count(t.Context(), "default"); won != 1 || n != 1 || err != nil {
		t.Errorf("%d have made it; counted %d, %v", won, n, err)
	}
	err := b.store.Do(t.Context(), repo.Scope{Tenant: "default"}, func(ctx context.Context, tx *repo.Tx) error { return Keys.Delete(ctx, tx, firstKey) })
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Count(t.Context(), "default"); n != 1 || err != nil {
		t.Errorf("revoked: counted %d, %v", n, err)
	}
	if err := b.CreateFirst(t.Context(), "default", access.PlatformAdmin, b.generate()); !errors.Is(err, repo.ErrExists) {
		t.Errorf("made again: %v", err)
	}
}

// An overlap that is not said is none; it must not be taken for one without end.
func TestNoOverlapEndsTheOldSecret(t *testing.T) {
	b := newBed(t)
	now := b.clock.now()
	var k Key
	for range 2 {
		if err := k.Issue(b.generate(), now, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if old := k.Secrets[0]; !ending(old.Expires, now) {
		t.Errorf("the old secret is good until %s", old.Expires)
	}
}
