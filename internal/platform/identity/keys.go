package identity

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
)

// KeyRecord is what is stored of an API key.
type KeyRecord struct {
	ID     string // key_…, the subject of whoever uses the key
	User   string // whose session the key is, who then is the subject; or empty
	Person string // who is behind the key, see access.Principal
	Hash   apikey.Hash
	Tenant string
	Roles  []string
	Scopes []access.Permission // none: all that the roles grant
	// Expires is when it ends, zero for never. Rotation sets it on the old key: for
	// that long both are good.
	Expires time.Time
	Revoked time.Time // when it was revoked, zero if it was not
}

// KeyLookup finds the record of a key by its hash. fault.NotFound: there is none,
// or its tenant is gone or suspended.
type KeyLookup func(ctx context.Context, hash apikey.Hash) (KeyRecord, error)

// KeysConfig says how keys are cached. Zero values mean the default.
type KeysConfig struct {
	// TTL is how long an answer of the store counts, and so how long after its
	// revocation a key may still be good where Invalidate was not called; 0 means
	// 2s.
	TTL time.Duration
	// Size is how many known keys are remembered, and how many unknown ones; 0
	// means 10,000.
	Size int
	// MaxLookups is how many keys that were never seen before may be looked up at
	// one time; 0 means 16. A flood of made-up keys thus cannot take the store,
	// and keys in use do not queue behind it.
	MaxLookups int64
	// Timeout bounds a lookup, with the wait for its turn; 0 means 2s.
	Timeout time.Duration
	// Used is told of a key in use, at most once per TTL and key, from several
	// goroutines; nil discards.
	Used func(record KeyRecord, at time.Time)
}

// queuedPerTurn is how many unknown keys may wait for each of MaxLookups.
const queuedPerTurn = 16

// Keys verifies API keys. It is safe for concurrent use.
type Keys struct {
	KeysConfig
	lookup KeyLookup
	roles  *access.Roles
	now    func() time.Time

	known, unknown *otter.Cache[apikey.Hash, *answer]
	flights        singleflight.Group
	turns          *semaphore.Weighted
	queued         atomic.Int64

	mu    sync.Mutex // orders what lookups store with what Invalidate removes
	epoch uint64     // number of invalidations
}

// answer is what the store said of a key.
type answer struct {
	principal *access.Principal // nil: there is no such key
	revoked   time.Time
	until     time.Time // when the store is asked again
}

// NewKeys returns a verifier of the keys that lookup knows.
func NewKeys(lookup KeyLookup, roles *access.Roles, now func() time.Time, cfg KeysConfig) (*Keys, error) {
	if cfg.TTL == 0 {
		cfg.TTL = 2 * time.Second
	}
	if cfg.Size == 0 {
		cfg.Size = 10_000
	}
	if cfg.MaxLookups == 0 {
		cfg.MaxLookups = 16
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.TTL < 0 || cfg.Size < 0 || cfg.MaxLookups < 0 || cfg.Timeout < 0 {
		return nil, fault.New(fault.Invalid, "the cache of API keys has a negative TTL, Size, MaxLookups or Timeout: expected positive ones, or 0 for the default")
	}
	k := &Keys{KeysConfig: cfg, lookup: lookup, roles: roles, now: now, turns: semaphore.NewWeighted(cfg.MaxLookups)}
	for _, cache := range []**otter.Cache[apikey.Hash, *answer]{&k.known, &k.unknown} {
		// It only bounds the number: answers carry their own end, and known keys
		// that are past it still count as known.
		c, err := otter.New(&otter.Options[apikey.Hash, *answer]{MaximumSize: cfg.Size})
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "no cache of API keys")
		}
		*cache = c
	}
	return k, nil
}

// Verify returns the principal of a key. The codes of fault.Unauthenticated are
// "api_key_malformed", "api_key_unknown", "api_key_revoked" and
// "api_key_expired". What the lookup fails with goes through: without the store
// no key is good.
func (k *Keys) Verify(ctx context.Context, text string) (*access.Principal, error) {
	hash, err := apikey.Parse(text)
	if err != nil {
		return nil, err
	}
	return k.verify(ctx, hash)
}

func (k *Keys) verify(ctx context.Context, hash apikey.Hash) (_ *access.Principal, err error) {
	now := k.now()
	a, seen := k.known.GetIfPresent(hash)
	if !seen {
		a, _ = k.unknown.GetIfPresent(hash)
	}
	if a == nil || !now.Before(a.until) {
		if a, err = k.load(ctx, hash, seen); err != nil {
			return nil, err
		}
	}
	return a.judge(now)
}

func (a *answer) judge(now time.Time) (*access.Principal, error) {
	switch {
	case a.principal == nil:
		return nil, errKeyUnknown
	case !a.revoked.IsZero():
		return nil, errKeyRevoked
	case a.principal.Expired(now):
		return nil, errKeyExpired
	}
	return a.principal, nil
}

// load asks the store, once for all who wait for the same key.
func (k *Keys) load(ctx context.Context, hash apikey.Hash, seen bool) (*answer, error) {
	epoch := k.invalidations()
	// Who asks after an invalidation does not wait for an answer of before.
	flight := string(binary.BigEndian.AppendUint64(hash[:], epoch))
	done := k.flights.DoChan(flight, func() (any, error) {
		// The answer is everybody's: who caused the lookup may go away.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.Timeout)
		defer cancel()
		return k.ask(ctx, hash, seen, epoch)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*answer), nil
	case <-ctx.Done():
		return nil, fault.Of(context.Cause(ctx))
	}
}

func (k *Keys) ask(ctx context.Context, hash apikey.Hash, seen bool, epoch uint64) (*answer, error) {
	if !seen {
		if err := k.queue(ctx); err != nil {
			return nil, err
		}
		defer k.turns.Release(1)
	}
	began := k.now() // the answer is no newer than that
	record, err := k.lookup(ctx, hash)
	switch {
	case fault.Is(err, fault.NotFound):
		return k.keep(hash, &answer{until: began.Add(k.TTL)}, epoch), nil
	case err != nil:
		return nil, err
	case !record.Hash.Equal(hash):
		return nil, fault.New(fault.Internal, "the store of API keys returned another key than was asked for")
	}
	a := &answer{principal: k.principal(record), revoked: record.Revoked, until: began.Add(k.TTL)}
	if _, err := a.judge(began); err == nil && k.Used != nil {
		k.Used(record, began)
	}
	return k.keep(hash, a, epoch), nil
}

// queue waits for the turn of a key that was never seen before. The queue is
// short: who stands at its end would wait in vain, and take memory meanwhile.
func (k *Keys) queue(ctx context.Context) error {
	defer k.queued.Add(-1)
	if k.queued.Add(1) > queuedPerTurn*k.MaxLookups {
		return errKeysBusy
	}
	if err := k.turns.Acquire(ctx, 1); err != nil {
		return errKeysBusy
	}
	return nil
}

// keep stores the answer, unless something was invalidated since the epoch: then
// it may be of before, and is good only for those who asked before.
func (k *Keys) keep(hash apikey.Hash, a *answer, epoch uint64) *answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch != epoch {
		return a
	}
	if a.principal != nil {
		k.known.Set(hash, a)
		k.unknown.Invalidate(hash)
	} else {
		k.known.Invalidate(hash)
		k.unknown.Set(hash, a)
	}
	return a
}

// Invalidate forgets a key at once: it was made, changed or revoked.
func (k *Keys) Invalidate(hash apikey.Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.epoch++
	k.known.Invalidate(hash)
	k.unknown.Invalidate(hash)
}

// InvalidateWhere forgets the keys of principals at once, and those that let
// nobody in: a tenant or user was changed. It looks at all known keys, so it is
// for what is rare.
func (k *Keys) InvalidateWhere(of func(*access.Principal) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.epoch++
	for hash, a := range k.known.All() {
		if of(a.principal) {
			k.known.Invalidate(hash)
		}
	}
	k.unknown.InvalidateAll()
}

// invalidations returns how many invalidations there were.
func (k *Keys) invalidations() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.epoch
}

func (k *Keys) principal(r KeyRecord) *access.Principal {
	p := &access.Principal{
		Tenant: r.Tenant, Subject: r.ID, Kind: access.KindAPIKey, Method: access.MethodAPIKey, Credential: r.ID, Person: r.Person,
		Roles: slices.Clone(r.Roles), Permissions: k.roles.Effective(r.Roles, r.Scopes), Expires: r.Expires,
	}
	p.Recheck = k.recheck(p, r.Hash)
	if r.User != "" {
		p.Subject, p.Kind, p.Method = r.User, access.KindUser, access.MethodPassword
	}
	return p
}

// recheck returns a principal's Recheck: its key has to be good for all that it was.
func (k *Keys) recheck(p *access.Principal, hash apikey.Hash) func(context.Context) error {
	var same atomic.Pointer[access.Principal] // the last one that may do as much
	return func(ctx context.Context) error {
		now, err := k.verify(ctx, hash)
		if err != nil || now == p || now == same.Load() {
			return err
		}
		if now.Tenant != p.Tenant || !p.Permissions.Within(now.Permissions) {
			return access.ErrNarrowed
		}
		same.Store(now)
		return nil
	}
}

var (
	errKeyUnknown error = fault.New(fault.Unauthenticated, "the API key is not known: it may have been deleted, or belongs to another installation").
			WithCode("api_key_unknown")
	errKeyRevoked error = fault.New(fault.Unauthenticated, "the API key was revoked: ask an administrator of your tenant for a new one").
			WithCode("api_key_revoked")
	errKeyExpired error = fault.New(fault.Unauthenticated, "the API key has expired: ask an administrator of your tenant for a new one").
			WithCode("api_key_expired")
	errKeysBusy error = fault.New(fault.Unavailable, "too many new API keys are being looked up: try again in a moment").
			WithCode("api_keys_busy").WithRetryAfter(time.Second)
)
