package identity

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
)

// shelf is a store of keys that counts lookups and can be slow or broken.
type shelf struct {
	mu      sync.Mutex
	records map[apikey.Hash]KeyRecord
	broken  error
	slow    time.Duration
	lookups int
	running atomic.Int32
	most    atomic.Int32
}

func (s *shelf) put(r KeyRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = map[apikey.Hash]KeyRecord{}
	}
	s.records[r.Hash] = r
}

func (s *shelf) count() int { s.mu.Lock(); defer s.mu.Unlock(); return s.lookups }

func (s *shelf) lookup(ctx context.Context, h apikey.Hash) (KeyRecord, error) {
	s.most.Store(max(s.most.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	s.mu.Lock()
	s.lookups++
	r, ok := s.records[h] // read before the wait, as a slow store's answer may be old
	err, slow := s.broken, s.slow
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return KeyRecord{}, ctx.Err()
	}
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such key")
	}
	return r, err
}

func record(k apikey.Key) KeyRecord {
	return KeyRecord{ID: "key_1", Hash: k.Hash, Tenant: "acme", Roles: []string{access.Operator}}
}

func testKeys(t *testing.T, s *shelf, cfg KeysConfig) *Keys {
	t.Helper()
	k, err := NewKeys(s.lookup, testRoles(t), time.Now, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustVerify(t *testing.T, keys *Keys, k apikey.Key, code string) *access.Principal {
	t.Helper()
	p, err := keys.Verify(t.Context(), k.Secret.Reveal())
	if code == "" && (err != nil || p == nil) || code != "" && (fault.CodeOf(err) != code || p != nil) {
		t.Errorf("%v, %v, expected code %q", p, err, code)
	}
	return p
}

func TestKeysAreVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, scoped, expiring, revoked, unknown := newKey(t), newKey(t), newKey(t), newKey(t), newKey(t)
		s := new(shelf)
		s.put(record(good))
		r := record(scoped)
		r.ID, r.Scopes = "key_2", []access.Permission{"jobs:read", "tenants:write"}
		s.put(r)
		r = record(expiring)
		r.Expires = time.Now().Add(time.Second)
		s.put(r)
		r = record(revoked)
		r.Revoked = time.Now()
		s.put(r)
		keys := testKeys(t, s, KeysConfig{})

		p := mustVerify(t, keys, good, "")
		if p.Subject != "key_1" || p.Tenant != "acme" || p.Kind != access.KindAPIKey || p.Method != access.MethodAPIKey || !p.Can("jobs:run") {
			t.Errorf("%+v", p)
		}
		if p := mustVerify(t, keys, scoped, ""); !p.Permissions.Equal(access.SetOf("jobs:read")) {
			t.Errorf("scopes gave %v", p.Permissions.List())
		}
		mustVerify(t, keys, expiring, "")
		mustVerify(t, keys, revoked, "api_key_revoked")
		mustVerify(t, keys, unknown, "api_key_unknown")
		time.Sleep(time.Second)
		mustVerify(t, keys, expiring, "api_key_expired") // on the instant, not when the cache forgets
		if n := s.count(); n != 5 {
			t.Errorf("%d lookups of 5 keys", n)
		}
		before := s.count()
		for _, text := range []string{"", "x", "slc_live_", good.Secret.Reveal() + "x", good.Hash.String()} {
			if _, err := keys.Verify(t.Context(), text); fault.CodeOf(err) != "api_key_malformed" {
				t.Errorf("%q: %v", text, err)
			}
		}
		if s.count() != before {
			t.Error("the store was asked for garbage")
		}
	})
}

func TestAnswersCountForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), new(shelf)
		var used int
		keys := testKeys(t, s, KeysConfig{Used: func(KeyRecord, time.Time) { used++ }})
		mustVerify(t, keys, k, "api_key_unknown")
		s.put(record(k))
		mustVerify(t, keys, k, "api_key_unknown")
		if n := s.count(); n != 1 {
			t.Errorf("an unknown key was looked up %d times", n)
		}
		keys.Invalidate(k.Hash)
		mustVerify(t, keys, k, "") // at once

		for range 100 {
			mustVerify(t, keys, k, "")
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.count(); n < 6 || n > 7 || used != n-1 {
			t.Errorf("%d lookups in 10s, %d uses told", n, used)
		}

		r := record(k)
		r.Revoked = time.Now()
		s.put(r)
		time.Sleep(2 * time.Second)
		mustVerify(t, keys, k, "api_key_revoked") // within the TTL by itself
		before := used
		time.Sleep(2 * time.Second)
		mustVerify(t, keys, k, "api_key_revoked")
		if used != before {
			t.Error("a revoked key was told to be in use")
		}
	})
}

// An answer that was on its way when the key was invalidated is not kept: else a
// revoked key would live on for the TTL.
func TestInvalidationOvertakesLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), &shelf{slow: time.Second}
		s.put(record(k))
		keys := testKeys(t, s, KeysConfig{TTL: time.Hour})
		var wg sync.WaitGroup
		wg.Go(func() { mustVerify(t, keys, k, "") }) // asked before
		time.Sleep(time.Second / 2)
		r := record(k)
		r.Revoked = time.Now()
		s.put(r)
		keys.Invalidate(k.Hash)
		time.Sleep(time.Second) // the first is answered now
		mustVerify(t, keys, k, "api_key_revoked")
		wg.Wait()
	})
}

// Who comes after an invalidation does not join a lookup of before.
func TestInvalidationSeparatesLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), &shelf{slow: time.Second}
		s.put(record(k))
		keys := testKeys(t, s, KeysConfig{TTL: time.Hour})
		var wg sync.WaitGroup
		wg.Go(func() { mustVerify(t, keys, k, "") })
		synctest.Wait()
		r := record(k)
		r.Revoked = time.Now()
		s.put(r)
		keys.Invalidate(k.Hash)
		wg.Go(func() { mustVerify(t, keys, k, "api_key_revoked") })
		wg.Wait()
		mustVerify(t, keys, k, "api_key_revoked")
	})
}

func TestLookupsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), &shelf{slow: time.Second}
		s.put(record(k))
		keys := testKeys(t, s, KeysConfig{})
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := keys.Verify(gone, k.Secret.Reveal()); !fault.Is(err, fault.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			wg.Go(func() { mustVerify(t, keys, k, "") })
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if n := s.count(); n != 1 {
			t.Errorf("%d lookups", n)
		}
	})
}

// Made-up keys with right checksums: the store sees a few at a time, the rest is
// refused, and a key in use is answered even where its answer has to be renewed.
func TestFloodOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), &shelf{slow: 100 * time.Millisecond}
		s.put(record(k))
		keys := testKeys(t, s, KeysConfig{})
		mustVerify(t, keys, k, "")
		var wg sync.WaitGroup
		var unknown, busy atomic.Int32
		for i := range 5000 {
			wg.Go(func() {
				switch _, err := keys.Verify(t.Context(), newKey(t).Secret.Reveal()); fault.CodeOf(err) {
				case "api_key_unknown":
					unknown.Add(1)
				case "api_keys_busy":
					busy.Add(1)
				default:
					t.Errorf("%v", err)
				}
			})
			if i%1000 == 999 {
				before := time.Now()
				mustVerify(t, keys, k, "")
				if waited := time.Since(before); waited > 100*time.Millisecond {
					t.Errorf("a key in use waited %s", waited)
				}
			}
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if most := s.most.Load(); most > 17 || unknown.Load() == 0 || busy.Load() == 0 {
			t.Errorf("%d at once, %d unknown, %d refused", most, unknown.Load(), busy.Load())
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	s := new(shelf)
	keys := testKeys(t, s, KeysConfig{Size: 100})
	for range 5000 {
		mustVerify(t, keys, newKey(t), "api_key_unknown")
	}
	keys.unknown.CleanUp()
	if n := keys.unknown.EstimatedSize(); n > 100 {
		t.Errorf("%d unknown keys are remembered", n)
	}
}

// Without its store nobody comes in, and what it fails with is told apart from a
// wrong key.
func TestBrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKey(t), new(shelf)
		s.put(record(k))
		keys := testKeys(t, s, KeysConfig{})
		mustVerify(t, keys, k, "")
		s.broken = fault.New(fault.Unavailable, "the store is away").WithCode("store_away")
		mustVerify(t, keys, k, "") // still known
		time.Sleep(2 * time.Second)
		mustVerify(t, keys, k, "store_away")
		s.broken = nil
		mustVerify(t, keys, k, "") // a failure is not remembered
		s.broken = errors.New("secret of the database")
		time.Sleep(2 * time.Second)
		mustVerify(t, keys, k, "internal")
		s.broken, s.slow = nil, time.Hour
		mustVerify(t, keys, k, "deadline_exceeded")
	})
}

func TestAnotherKeysRecordIsRefused(t *testing.T) {
	asked, stored := newKey(t), newKey(t)
	keys, err := NewKeys(func(context.Context, apikey.Hash) (KeyRecord, error) { return record(stored), nil }, testRoles(t), time.Now, KeysConfig{})
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, keys, asked, "internal")
}

func TestKeysConfigIsChecked(t *testing.T) {
	for _, cfg := range []KeysConfig{{TTL: -1}, {Size: -1}, {MaxLookups: -1}, {Timeout: -1}} {
		if _, err := NewKeys(nil, testRoles(t), time.Now, cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// A session acts as its user, but can be told apart.
func TestSessionsActAsTheirUser(t *testing.T) {
	k, s := newKey(t), new(shelf)
	r := record(k)
	r.User = "usr_1"
	s.put(r)
	p := mustVerify(t, testKeys(t, s, KeysConfig{}), k, "")
	if p.Subject != "usr_1" || p.Credential != "key_1" || p.Kind != access.KindUser || p.Method != access.MethodPassword {
		t.Errorf("%+v", p)
	}
}

// What concerns a tenant or a user is forgotten as a whole, also where it is on
// its way, and nothing else is.
func TestInvalidateWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acme, other, s := newKey(t), newKey(t), &shelf{slow: time.Second}
		s.put(record(acme))
		r := record(other)
		r.Tenant = "other"
		s.put(r)
		keys := testKeys(t, s, KeysConfig{TTL: time.Hour})
		mustVerify(t, keys, acme, "")
		mustVerify(t, keys, other, "")
		r = record(acme)
		r.Revoked = time.Now()
		s.put(r)
		ofAcme := func(p *access.Principal) bool { return p.Tenant == "acme" }
		before := s.count()
		keys.InvalidateWhere(ofAcme)
		mustVerify(t, keys, other, "")
		mustVerify(t, keys, acme, "api_key_revoked")
		if n := s.count() - before; n != 1 {
			t.Errorf("%d lookups", n)
		}

		s.put(record(acme))
		keys.Invalidate(acme.Hash)
		var wg sync.WaitGroup
		wg.Go(func() { mustVerify(t, keys, acme, "") })
		time.Sleep(time.Second / 2)
		s.put(r)
		keys.InvalidateWhere(ofAcme)
		time.Sleep(time.Second)
		wg.Wait()
		mustVerify(t, keys, acme, "api_key_revoked")
	})
}
