package identity

import (
	"testing"
	"testing/synctest"
	"time"

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
