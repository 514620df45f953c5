package jwt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// publisher is an issuer's address, in memory and in the time of a bubble.
type publisher struct {
	mu      sync.Mutex
	answer  []byte
	broken  bool
	slow    time.Duration
	fetches []time.Time
}

func (p *publisher) publish(answer []byte) { p.mu.Lock(); defer p.mu.Unlock(); p.answer = answer }
func (p *publisher) setBroken(b bool)      { p.mu.Lock(); defer p.mu.Unlock(); p.broken = b }
func (p *publisher) count() int            { p.mu.Lock(); defer p.mu.Unlock(); return len(p.fetches) }

func (p *publisher) Do(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.fetches = append(p.fetches, time.Now())
	answer, broken, slow := p.answer, p.broken, p.slow
	p.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if broken {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(answer)), Request: r}, nil
}

func testRemote(t *testing.T, client Client, cfg RemoteConfig) *Remote {
	t.Helper()
	r, err := NewRemote("https://id.example/jwks", client, time.Now, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustFind expects the key, or the code where that is not empty.
func mustFind(t *testing.T, r *Remote, id, code string) {
	t.Helper()
	k, err := r.key(t.Context(), id)
	if err == nil && k.KeyID != id {
		t.Errorf("key %q for %q", k.KeyID, id)
	}
	if code == "" && err != nil || code != "" && fault.CodeOf(err) != code {
		t.Errorf("key %q: %v, expected code %q", id, err, code)
	}
}

// The keys are encoded outside of the bubbles, in real time.
func sets(t *testing.T) (old, both, fresh []byte) {
	t.Helper()
	a, b := public("old", &testKeys().rsa.PublicKey), public("new", &testKeys().ec.PublicKey)
	return jwks(t, a), jwks(t, a, b), jwks(t, b)
}

func TestKeysRotate(t *testing.T) {
	old, both, fresh := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{answer: old}
		r := testRemote(t, p, RemoteConfig{})
		if p.count() != 0 {
			t.Error("fetched before the first token")
		}
		mustFind(t, r, "old", "")
		mustFind(t, r, "new", codeKey) // asked a moment ago
		p.publish(both)
		mustFind(t, r, "new", codeKey)
		time.Sleep(10 * time.Second)
		mustFind(t, r, "new", "") // an unknown key is reason to ask again
		mustFind(t, r, "old", "")

		p.publish(fresh)
		removed := time.Now()
		for time.Since(removed) < time.Minute {
			mustFind(t, r, "new", "")
			time.Sleep(time.Second)
			synctest.Wait()
		}
		mustFind(t, r, "old", codeKey) // replaced, not merged
		if n := p.count(); n > 5 {
			t.Errorf("%d fetches in 70s", n)
		}
	})
}

// A set that nobody used for long is not trusted at its next use: the key that
// was removed meanwhile is refused, even by the first token.
func TestRemovedKeysAreRefusedAfterMaxAge(t *testing.T) {
	old, _, fresh := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{answer: old}
		r := testRemote(t, p, RemoteConfig{})
		mustFind(t, r, "old", "")
		p.publish(fresh)
		time.Sleep(time.Minute - 1)
		mustFind(t, r, "old", "")
		synctest.Wait() // that use asked again, in the background
		mustFind(t, r, "old", codeKey)

		p.publish(old)
		time.Sleep(time.Hour)
		mustFind(t, r, "new", codeKey)
		mustFind(t, r, "old", "")
		p.publish([]byte(`{"keys":[]}`)) // none of its tokens counts any more
		time.Sleep(time.Minute)
		mustFind(t, r, "old", codeKey)
	})
}

// A set in use is renewed in the background: nobody waits for a slow issuer.
func TestUseRenewsInTheBackground(t *testing.T) {
	old, _, _ := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{answer: old}
		r := testRemote(t, p, RemoteConfig{})
		mustFind(t, r, "old", "")
		p.slow = 4 * time.Second
		began := time.Now()
		for range 600 {
			before := time.Now()
			mustFind(t, r, "old", "")
			if waited := time.Since(before); waited > 0 {
				t.Fatalf("waited %s", waited)
			}
			time.Sleep(time.Second)
		}
		if n, limit := p.count(), int(time.Since(began)/(30*time.Second))+1; n < limit/2 || n > limit {
			t.Errorf("%d fetches in %s", n, time.Since(began))
		}
	})
}

// A thousand unknown keys a second for a minute: no more than one fetch in 10 s,
// hardly anybody waits, and tokens with good keys are not disturbed.
func TestFloodOfUnknownKeys(t *testing.T) {
	old, _, _ := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{answer: old, slow: time.Second}
		r := testRemote(t, p, RemoteConfig{})
		mustFind(t, r, "old", "")
		var wg sync.WaitGroup
		var refused, busy, most atomic.Int32
		for ms := range 60_000 {
			wg.Go(func() {
				_, err := r.key(t.Context(), fmt.Sprint("unknown ", ms))
				switch fault.CodeOf(err) {
				case codeKey:
					refused.Add(1)
				case codeKeysUnavailable:
					busy.Add(1)
				default:
					t.Errorf("%v", err)
				}
			})
			if ms%1000 == 0 {
				before := time.Now()
				mustFind(t, r, "old", "")
				if time.Since(before) > 0 {
					t.Error("a good token waited")
				}
			}
			most.Store(max(most.Load(), r.waiting.Load()))
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if n := refused.Load() + busy.Load(); n != 60_000 || most.Load() > r.MaxWaiting+1 {
			t.Errorf("%d answers, %d waited at once", n, most.Load())
		}
		if n := p.count(); n < 6 || n > 7 {
			t.Errorf("%d fetches in 61s", n)
		}
		for i := 1; i < len(p.fetches); i++ {
			if gap := p.fetches[i].Sub(p.fetches[i-1]); gap < 10*time.Second {
				t.Errorf("%s between fetches", gap)
			}
		}
		t.Logf("%d unknown, %d told to come back, %d fetches", refused.Load(), busy.Load(), p.count())
	})
}

// All who come at the start share one fetch.
func TestFirstFetchIsShared(t *testing.T) {
	old, _, _ := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{answer: old, slow: time.Second}
		r := testRemote(t, p, RemoteConfig{})
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // causes the fetch, and goes away
			if _, err := r.key(gone, "old"); !fault.Is(err, fault.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			wg.Go(func() { mustFind(t, r, "old", "") })
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if n := p.count(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// While the issuer is out of reach its last keys count, up to a bound, and no
// token waits for it.
func TestOutageOfTheIssuer(t *testing.T) {
	old, both, _ := sets(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{broken: true}
		r := testRemote(t, p, RemoteConfig{})
		_, err := r.key(t.Context(), "old")
		if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != codeKeysUnavailable || fault.Of(err).RetryAfter == 0 {
			t.Errorf("no keys yet: %v", err)
		}
		time.Sleep(10 * time.Second)
		p.setBroken(false)
		p.publish(old)
		mustFind(t, r, "old", "") // recovers by itself

		p.setBroken(true)
		p.slow = 3 * time.Second
		began := time.Now()
		for time.Since(began) < 9*time.Minute {
			before := time.Now()
			mustFind(t, r, "old", "")
			if time.Since(before) > 0 {
				t.Fatalf("waited %s after %s", time.Since(before), time.Since(began))
			}
			time.Sleep(time.Second)
		}
		mustFind(t, r, "new", codeKeysUnavailable) // perhaps a new one: nobody can know
		time.Sleep(2 * time.Minute)
		mustFind(t, r, "old", codeKeysUnavailable)
		p.setBroken(false)
		p.publish(both)
		time.Sleep(10 * time.Second)
		mustFind(t, r, "new", "")
		mustFind(t, r, "old", "")
	})
}

func TestSlowIssuersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRemote(t, &publisher{slow: time.Hour}, RemoteConfig{})
		began := time.Now()
		mustFind(t, r, "old", codeKeysUnavailable)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("waited %s", took)
		}
	})
}

func TestAddressesOfKeySets(t *testing.T) {
	for address, good := range map[string]bool{
		"https://id.example/jwks": true, "http://127.0.0.1:8080/jwks": true, "http://[::1]/jwks": true, "http://localhost/jwks": true,
		"": false, "/jwks": false, "http://id.example/jwks": false, "http://localhost.evil.example/": false, "http://127.0.0.1.evil.example/": false,
		"file:///etc/passwd": false, "ftp://id.example": false, "https://": false, "https://user:secret@id.example/": false, "://": false,
	} {
		if _, err := NewRemote(address, http.DefaultClient, time.Now, RemoteConfig{}); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, cfg := range []RemoteConfig{{MinInterval: time.Millisecond}, {MaxAge: 11 * time.Second}, {MaxStale: time.Second}, {Timeout: -1}, {MaxWaiting: -1}} {
		if _, err := NewRemote("https://id.example", http.DefaultClient, time.Now, cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// Over real HTTP: what is too large, not found, or no key set replaces nothing.
func TestOnlyKeySetsAreTaken(t *testing.T) {
	good, _, _ := sets(t)
	var answer func(http.ResponseWriter)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()
	r, err := NewRemote(srv.URL, srv.Client(), time.Now, RemoteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]func(http.ResponseWriter){
		"too large": func(w http.ResponseWriter) { w.Write(bytes.Repeat([]byte(" "), maxSetBytes+1)) },
		"an error":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError); w.Write(good) },
		"a page":    func(w http.ResponseWriter) { io.WriteString(w, "<html>") },
		"half":      func(w http.ResponseWriter) { w.Write(good[:len(good)/2]) },
	} {
		answer = bad
		if keys, err := r.download(t.Context()); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	answer = func(w http.ResponseWriter) { w.Write(good) }
	if keys, err := r.download(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}

type redirected struct{ to string }

func (r redirected) Do(req *http.Request) (*http.Response, error) {
	final := req.Clone(req.Context())
	final.URL, _ = url.Parse(r.to)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"keys":[]}`)), Request: final}, nil
}

func TestRedirectsStayEncrypted(t *testing.T) {
	for to, good := range map[string]bool{"https://other.example/": true, "http://other.example/": false} {
		if _, err := testRemote(t, redirected{to}, RemoteConfig{}).download(t.Context()); (err == nil) != good {
			t.Errorf("redirected to %s: %v", to, err)
		}
	}
}
