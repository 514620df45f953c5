package jwt

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/loopback"
)

// Client is the part of http.Client that fetches key sets.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// RemoteConfig says how a key set is kept current. Zero values mean the default.
type RemoteConfig struct {
	// MaxAge is how long a fetched set is trusted without asking again, and so
	// how long a key that its issuer removed still counts; 0 means 60s. A set in
	// use is fetched again, in the background, after half of it.
	MaxAge time.Duration
	// MinInterval is the least time between two fetches, whatever comes in; 0
	// means 10s.
	MinInterval time.Duration
	// MaxStale is how long a set counts while the issuer cannot be reached; 0
	// means 10min.
	MaxStale time.Duration
	// Timeout bounds a fetch; 0 means 5s.
	Timeout time.Duration
	// MaxWaiting is how many requests may wait for a fetch; 0 means 128. Beyond it
	// they are refused with fault.Unavailable.
	MaxWaiting int32
}

// Remote is a key set that its issuer publishes at an address. It is safe for
// concurrent use.
//
// It runs no goroutine but the one of a fetch, which ends with its timeout. A
// fetch replaces the set: what the issuer removed is gone. Nothing that a token
// says changes the address, and a flood of tokens with unknown keys causes one
// fetch per MinInterval.
type Remote struct {
	RemoteConfig
	url    string
	client Client
	now    func() time.Time

	current atomic.Pointer[snapshot]
	failing atomic.Bool // the last fetch failed
	waiting atomic.Int32

	mu     sync.Mutex
	began  time.Time     // of the last fetch
	flight chan struct{} // closed at the end of the fetch that runs; nil if none does
	failed error         // of the last fetch
}

type snapshot struct {
	keys    keySet
	fetched time.Time // when the fetch began: the keys are no newer than that
}

// NewRemote returns the key set at the address, which must be https unless the
// host is the machine itself. Nothing is fetched before the first token.
func NewRemote(address string, client Client, now func() time.Time, cfg RemoteConfig) (*Remote, error) {
	u, err := url.Parse(address)
	if err != nil || !trusted(u) {
		return nil, fault.New(fault.Invalid, "the address of a key set is %.200q: expected https://…, or http:// to a loopback address", address)
	}
	for _, d := range []struct {
		v         *time.Duration
		otherwise time.Duration
	}{{&cfg.MaxAge, time.Minute}, {&cfg.MinInterval, 10 * time.Second}, {&cfg.MaxStale, 10 * time.Minute}, {&cfg.Timeout, 5 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.otherwise
		}
	}
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = 128
	}
	if cfg.MinInterval < time.Second || cfg.MaxAge < 2*cfg.MinInterval || cfg.MaxStale < cfg.MaxAge || cfg.Timeout < 0 || cfg.MaxWaiting < 0 {
		return nil, fault.New(fault.Invalid, "key set times: expected 1s ≤ MinInterval (%s), 2 × MinInterval ≤ MaxAge (%s) ≤ MaxStale (%s), nothing negative", cfg.MinInterval, cfg.MaxAge, cfg.MaxStale)
	}
	return &Remote{RemoteConfig: cfg, url: u.String(), client: client, now: now}, nil
}

func trusted(u *url.URL) bool {
	if u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Hostname())
}

func (r *Remote) key(ctx context.Context, id string) (publicKey, error) {
	now := r.now()
	if s := r.current.Load(); s != nil {
		age := now.Sub(s.fetched)
		k, known := s.keys[id]
		// Where the issuer is out of reach, nobody waits for it to find that again.
		if known && (age < r.MaxAge || r.failing.Load() && age < r.MaxStale) {
			if age >= r.MaxAge/2 {
				r.refresh(ctx, now)
			}
			return k, nil
		}
	}
	// An unknown key may be a new one, and an old set may have lost this one.
	if err := r.wait(ctx, r.refresh(ctx, now)); err != nil {
		return publicKey{}, err
	}
	s := r.current.Load()
	if s == nil || now.Sub(s.fetched) >= r.MaxStale {
		return publicKey{}, r.unavailable()
	}
	k, err := s.keys.find(id)
	if err != nil && now.Sub(s.fetched) >= r.MaxAge {
		return publicKey{}, r.unavailable() // it may be newer than the set
	}
	return k, err
}

// refresh starts a fetch unless one runs or the last one is too recent. It
// returns what is closed at the end of the fetch, or nil if there is none.
func (r *Remote) refresh(ctx context.Context, now time.Time) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	if !r.began.IsZero() && now.Sub(r.began) < r.MinInterval {
		return nil
	}
	done := make(chan struct{})
	r.began, r.flight = now, done
	// The fetch is everybody's: it goes on when the request that caused it ends.
	go r.fetch(context.WithoutCancel(ctx), now, done)
	return done
}

func (r *Remote) wait(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return nil
	}
	defer r.waiting.Add(-1)
	if r.waiting.Add(1) > r.MaxWaiting {
		return r.unavailable()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fault.Of(context.Cause(ctx))
	}
}

func (r *Remote) fetch(ctx context.Context, began time.Time, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	keys, err := r.download(ctx)
	if err == nil {
		r.current.Store(&snapshot{keys, began})
	}
	r.failing.Store(err != nil)
	r.mu.Lock()
	r.flight, r.failed = nil, err
	r.mu.Unlock()
	close(done)
}

func (r *Remote) download(ctx context.Context) (keySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("Cache-Control", "no-cache") // a proxy's copy would outlive a removed key
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.Request != nil && !trusted(resp.Request.URL) {
		return nil, fault.New(fault.Unavailable, "the key set was redirected to an address that is not https")
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fault.New(fault.Unavailable, "the key set's address answered %d", resp.StatusCode)
	}
	raw, err := readKeys(resp.Body)
	if err != nil {
		return nil, err
	}
	return decodeKeys(raw)
}

func (r *Remote) unavailable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fault.Wrap(fault.Unavailable, r.failed, "the keys of the token's issuer cannot be fetched now: try again later").
		WithCode(codeKeysUnavailable).WithRetryAfter(r.MinInterval)
}
