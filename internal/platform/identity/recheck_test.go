package identity

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// What outlives the request that showed a key learns that it was revoked: as soon
// as any request with it would.
func TestPrincipalsAreCheckedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, s := newKey(t), new(shelf)
		s.put(record(key))
		keys := testKeys(t, s, KeysConfig{})
		p := mustVerify(t, keys, key, "")
		if err := p.Holds(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
		s.broken = fault.New(fault.Unavailable, "the store is away")
		time.Sleep(3 * time.Second)
		if err := p.Holds(t.Context(), time.Now()); err != nil {
			t.Errorf("a store that is away ends streams: %v", err)
		}
		s.broken = nil
		r := record(key)
		r.Revoked = time.Now()
		s.put(r)
		keys.Invalidate(key.Hash)
		if err := p.Holds(t.Context(), time.Now()); fault.CodeOf(err) != "credential_invalid" {
			t.Errorf("a revoked key: %v", err)
		}
	})
}

// What outlives the request that showed a key ends once the key may do less, and
// not because it may do more.
func TestNarrowedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, s := newKey(t), new(shelf)
		r := record(key)
		r.Roles = []string{access.Operator, access.Viewer}
		s.put(r)
		keys := testKeys(t, s, KeysConfig{})
		p := mustVerify(t, keys, key, "")
		holds := func(what, code string, roles ...string) {
			t.Helper()
			r.Roles = roles
			s.put(r)
			time.Sleep(3 * time.Second)
			for range 2 {
				if err := p.Holds(t.Context(), time.Now()); fault.CodeOf(err) != code {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		holds("the same roles", "", access.Viewer, access.Operator)
		holds("more", "", access.Admin, access.Operator)
		holds("less", "credential_narrowed", access.Viewer)
		holds("as much again", "", access.Admin)
	})
}
