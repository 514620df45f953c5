package directory

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/platform/repo"
)

// made issues a key that somebody has made, who may be known to be a person.
func (b *bed) made(id KeyID, by, person string) string {
	b.t.Helper()
	key := b.generate()
	if err := b.Announce(b.t.Context(), acme, id, key, time.Time{}); err != nil {
		b.t.Fatal(err)
	}
	err := b.store.Do(b.t.Context(), repo.Scope{Tenant: acme, Actor: by}, func(ctx context.Context, tx *repo.Tx) error {
		k := Key{Name: "test", Person: person}
		k.ID = id
		return errors.Join(k.Issue(key, tx.Now(), time.Time{}), Keys.Add(ctx, tx, &k))
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return key.Secret.Reveal()
}

// Who is behind a key is its user, or was behind its maker, also where the keys
// between were made before that was kept, or were revoked.
func TestPerson(t *testing.T) {
	b := newBed(t)
	secrets := map[string]string{
		"usr_x":   b.made("key_1", "usr_x", ""),
		"key_2":   b.made("key_2", "system", ""),
		"usr_y":   b.made("key_3", "key_4", "usr_y"),
		"key_old": b.made("key_5", "key_old", ""),
	}
	older := map[string]string{"usr_x": b.made("key_6", "key_1", ""), "key_2": b.made("key_7", "key_2", ""), "usr_y": b.made("key_8", "usr_y", "usr_y")}
	oldest := b.made("key_9", "key_6", "")
	check := func(secret, want string) {
		t.Helper()
		p, err := b.keys.Verify(t.Context(), secret)
		if err != nil || p.Behind() != want {
			t.Errorf("%+v, %v; behind it is %s", p, err, want)
		}
	}
	for _, all := range []map[string]string{secrets, older} {
		for want, secret := range all {
			check(secret, want)
		}
	}
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Keys.Delete(ctx, tx, "key_6") })
	check(oldest, "usr_x")

	u := b.user("alice")
	session, err := b.NewSession(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Keys.Add(ctx, tx, session) })
	check(session.Fresh.Reveal(), string(u.ID))
}
