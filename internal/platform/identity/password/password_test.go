package password

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// cheap costs, so that tests run a hash in microseconds.
var cheap = Params{Time: 1, MemoryKiB: 8, Threads: 1}

func testHasher(t testing.TB, cfg Config) *Hasher {
	t.Helper()
	if cfg.Params == (Params{}) {
		cfg.Params = cheap
	}
	h, err := newHasher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestPasswordsAreVerified(t *testing.T) {
	h, ctx := testHasher(t, Config{}), t.Context()
	right := secret.Of("correct horse")
	stored, err := h.Hash(ctx, right)
	if err != nil {
		t.Fatal(err)
	}
	if rehash, err := h.Verify(ctx, stored, right); err != nil || rehash {
		t.Errorf("rehash %t, %v", rehash, err)
	}
	again, err := h.Hash(ctx, right)
	if err != nil || again == stored {
		t.Errorf("no salt: %s twice, %v", stored, err)
	}
	for _, wrong := range []string{"", "correct horsf", "correct horse ", "correct horse\x00", strings.Repeat("x", MaxLength+1)} {
		_, err := h.Verify(ctx, stored, secret.Of(wrong))
		if fault.CodeOf(err) != "password_wrong" || !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("password %.20q: %v", wrong, err)
		}
		if nobody := h.VerifyNobody(ctx, secret.Of(wrong)); nobody == nil || nobody.Error() != err.Error() || fault.CodeOf(nobody) != fault.CodeOf(err) {
			t.Errorf("a user that does not exist is told: %v, %v", nobody, err)
		}
	}
}

// The default costs are those of the standard, and the text is what other
// implementations write.
func TestDefaultCostsAndForm(t *testing.T) {
	h, err := New(Config{Random: strings.NewReader("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := h.Hash(t.Context(), secret.Of("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	sum := argon2.IDKey([]byte("correct horse"), []byte("0123456789abcdef"), 2, 19456, 1, 32)
	if want := "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + base64NoPad.EncodeToString(sum); stored != want {
		t.Errorf("stored %s, expected %s", stored, want)
	}
}

func TestCostsAreBounded(t *testing.T) {
	for _, p := range []Params{
		{1, 19456, 1}, {2, 19455, 1}, {2, 19456, 0}, {17, 19456, 1}, {2, maxMemoryKiB + 1, 1}, {2, 19456, 17}, {0, 1 << 17, 1},
	} {
		if _, err := New(Config{Params: p}); !fault.Is(err, fault.Invalid) {
			t.Errorf("costs %+v were taken: %v", p, err)
		}
	}
	if _, err := New(Config{MemoryKiB: 19455}); !fault.Is(err, fault.Invalid) {
		t.Errorf("memory for less than one hash: %v", err)
	}
}

func TestWeakHashesAreMadeAgain(t *testing.T) {
	ctx, pw := t.Context(), secret.Of("correct horse")
	for _, c := range []struct {
		before, now Params
		rehash      bool
	}{
		{cheap, cheap, false},
		{cheap, Params{2, 8, 1}, true},
		{cheap, Params{1, 16, 1}, true},
		{Params{2, 16, 1}, cheap, false},
		{Params{1, 16, 2}, Params{1, 16, 1}, false}, // threads change the result, not the cost
	} {
		stored, err := testHasher(t, Config{Params: c.before}).Hash(ctx, pw)
		if err != nil {
			t.Fatal(err)
		}
		if rehash, err := testHasher(t, Config{Params: c.now}).Verify(ctx, stored, pw); err != nil || rehash != c.rehash {
			t.Errorf("%+v then %+v: rehash %t, %v", c.before, c.now, rehash, err)
		}
	}
}

func TestLengths(t *testing.T) {
	h := testHasher(t, Config{})
	for n, good := range map[int]bool{0: false, MinLength - 1: false, MinLength: true, MaxLength: true, MaxLength + 1: false} {
		if _, err := h.Hash(t.Context(), secret.Of(strings.Repeat("x", n))); (err == nil) != good || err != nil && fault.CodeOf(err) != "password_length" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestNoSaltNoHash(t *testing.T) {
	h := testHasher(t, Config{Random: iotest.ErrReader(fmt.Errorf("broken"))})
	if stored, err := h.Hash(t.Context(), secret.Of("correct horse")); err == nil {
		t.Errorf("hash %s without a salt", stored)
	}
}

// While the memory is taken, a login waits for its time, then is refused so
// that its client can tell overload from a wrong password.
func TestOverloadIsTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHasher(t, Config{MemoryKiB: 16, Wait: time.Second})
		pw := secret.Of("correct horse")
		if err := h.acquire(t.Context(), 16); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := h.VerifyNobody(t.Context(), pw)
		if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "password_busy" || fault.Of(err).RetryAfter == 0 {
			t.Errorf("overloaded: %v", err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("refused after %s", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.VerifyNobody(ctx, pw); !fault.Is(err, fault.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		time.AfterFunc(time.Second/2, func() { h.memory.Release(16) })
		if err := h.VerifyNobody(t.Context(), pw); fault.CodeOf(err) != "password_wrong" {
			t.Errorf("once there is memory: %v", err)
		}
	})
}

// A stored hash that takes more than all of the memory runs alone instead of
// never.
func TestHeavyHashesRunAlone(t *testing.T) {
	ctx, pw := t.Context(), secret.Of("correct horse")
	stored, err := testHasher(t, Config{Params: Params{1, 64, 1}}).Hash(ctx, pw)
	if err != nil {
		t.Fatal(err)
	}
	h := testHasher(t, Config{MemoryKiB: 16})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := h.Verify(ctx, stored, pw); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	h, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := h.VerifyNobody(b.Context(), secret.Of("correct horse")); fault.CodeOf(err) != "password_wrong" {
			b.Fatal(err)
		}
	}
}
