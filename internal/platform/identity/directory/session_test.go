package directory

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
)

// Whatever is wrong, the answer is the same, and so is the work: a hash.
func TestSignInSaysTheSame(t *testing.T) {
	b := newBed(t)
	b.user("jane.doe")
	gone := b.user("gone.one")
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Users.Delete(ctx, tx, gone.ID) })
	off := b.user("disabled")
	b.change(off.ID, func(u *User) { u.Set(u.Roles, true, "") })
	if err := b.EnsureTenant(t.Context(), "other", "Other"); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][3]string{
		"wrong password": {acme, "jane.doe", "jane.doejane.do"}, "no such user": {acme, "joe", "joejoejoe"}, "another tenant": {"other", "jane.doe", "jane.doejane.doe"},
		"no such tenant": {"nobody", "jane.doe", "jane.doejane.doe"}, "no tenant's name": {"A/\x00", "jane.doe", "x"}, "deleted": {acme, "gone.one", "gone.onegone.one"},
		"disabled": {acme, "disabled", "disableddisabled"}, "empty": {acme, "jane.doe", ""}, "huge": {acme, "jane.doe", strings.Repeat("x", 1<<20)},
	} {
		began := time.Now()
		_, err := b.signIn(in[0], in[1], in[2])
		if !errors.Is(err, ErrSignIn) || err.Error() != ErrSignIn.Error() {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took < 2*time.Millisecond && name != "huge" {
			t.Errorf("%s: refused in %s, without a hash", name, took)
		}
	}
	b.suspend(true)
	if _, err := b.signIn(acme, "jane.doe", "jane.doejane.doe"); !errors.Is(err, ErrSignIn) {
		t.Errorf("a suspended tenant: %v", err)
	}
	b.suspend(false)
	if u, err := b.signIn(acme, "jane.doe", "jane.doejane.doe"); err != nil || u.Login != "jane.doe" {
		t.Errorf("%+v, %v", u, err)
	}
}

func (b *bed) change(id UserID, change func(*User)) {
	b.t.Helper()
	b.do(func(ctx context.Context, tx *repo.Tx) error {
		_, err := Users.Update(ctx, tx, id, func(u *User) error { change(u); return nil })
		return err
	})
}

func TestASessionActsAsItsUser(t *testing.T) {
	b := newBed(t)
	u := b.user("jane.doe")
	k := b.session("jane.doe")
	p, err := b.keys.Verify(t.Context(), k.Fresh.Reveal())
	if err != nil || p.Subject != string(u.ID) || p.Credential != string(k.ID) || p.Kind != access.KindUser || !p.Can("jobs:read") || p.Can("jobs:run") {
		t.Errorf("%+v, %v", p, err)
	}
	b.clock.move(SessionTime)
	b.expect("after its time", k.Fresh, "api_key_expired")
	b.clock.move(endedShown)
	b.expect("long after", k.Fresh, "api_key_unknown")
	for _, kind := range Expiring() {
		if n, err := b.store.Driver().Purge(t.Context(), kind, b.clock.now(), 100); n != 1 || err != nil {
			t.Errorf("%s: %d removed, %v", kind, n, err)
		}
	}
}

// Whatever happens to a user ends the sessions from before, at once here.
func TestChangesEndSessions(t *testing.T) {
	for name, change := range map[string]func(b *bed, id UserID){
		"password": func(b *bed, id UserID) { b.change(id, func(u *User) { u.Set(u.Roles, false, "$another") }) },
		"roles":    func(b *bed, id UserID) { b.change(id, func(u *User) { u.Set([]string{access.Operator}, false, "") }) },
		"disabled": func(b *bed, id UserID) { b.change(id, func(u *User) { u.Set(u.Roles, true, "") }) },
		"disabled and enabled": func(b *bed, id UserID) {
			b.change(id, func(u *User) { u.Set(u.Roles, true, "") })
			b.change(id, func(u *User) { u.Set(u.Roles, false, "") })
		},
		"deleted": func(b *bed, id UserID) {
			b.do(func(ctx context.Context, tx *repo.Tx) error { return Users.Delete(ctx, tx, id, UserChanged{}) })
		},
		"deleted and restored": func(b *bed, id UserID) {
			b.do(func(ctx context.Context, tx *repo.Tx) error { return Users.Delete(ctx, tx, id, UserChanged{}) })
			b.do(func(ctx context.Context, tx *repo.Tx) error {
				_, err := Users.Restore(ctx, tx, id, UserChanged{})
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			jane, joe := b.user("jane.doe"), b.user("joe.blow")
			s, other := b.session("jane.doe"), b.session("joe.blow")
			b.expect("before", s.Fresh, string(jane.ID))
			b.expect("another's before", other.Fresh, string(joe.ID))
			change(b, jane.ID)
			b.expect("after", s.Fresh, "api_key_unknown")
			b.expect("another's after", other.Fresh, string(joe.ID))
		})
	}
}

// A password that is changed while somebody signs in with the old one leaves
// that session without effect, and the new password in place.
func TestPasswordChangesDuringSignIn(t *testing.T) {
	b := newBed(t)
	cheap, err := password.New(password.Config{})
	if err != nil {
		t.Fatal(err)
	}
	u := b.user("jane.doe")
	signedIn, err := b.signIn(acme, "jane.doe", "jane.doejane.doe")
	if err != nil {
		t.Fatal(err)
	}
	b.change(u.ID, func(u *User) { u.Set(u.Roles, false, "$new") })
	if err := b.rehash(t.Context(), cheap, signedIn, secret.Of("jane.doejane.doe")); err != nil {
		t.Fatal(err)
	}
	if now, err := Users.Get(t.Context(), b.Reading(acme), u.ID); err != nil || now.Password != "$new" {
		t.Errorf("%q, %v", now.Password, err)
	}
	k, err := b.NewSession(t.Context(), signedIn)
	if err != nil {
		t.Fatal(err)
	}
	b.do(func(ctx context.Context, tx *repo.Tx) error { return Keys.Add(ctx, tx, k) })
	b.expect("session of the old password", k.Fresh, "api_key_unknown")
}

// A hash of lower costs is made anew at the next sign-in, which ends no session.
func TestRehash(t *testing.T) {
	b := newBed(t)
	u := b.user("jane.doe")
	s := b.session("jane.doe")
	old := u.Password
	dearer, err := password.New(password.Config{Params: password.Params{Time: 3, MemoryKiB: 19 << 10, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b.hash = dearer
	if _, err := b.signIn(acme, "jane.doe", "wrong wrong"); !errors.Is(err, ErrSignIn) {
		t.Error(err)
	}
	if now, err := Users.Get(t.Context(), b.Reading(acme), u.ID); err != nil || now.Password != old {
		t.Errorf("a wrong password was kept: %v", err)
	}
	for range 2 {
		if _, err := b.signIn(acme, "jane.doe", "jane.doejane.doe"); err != nil {
			t.Fatal(err)
		}
	}
	now, err := Users.Get(t.Context(), b.Reading(acme), u.ID)
	if err != nil || now.Password == old || now.Version != 2 {
		t.Errorf("version %d, %v", now.Version, err)
	}
	b.expect("session of before", s.Fresh, string(u.ID))
}

// Guessing ends after some attempts, for logins that exist and those that do
// not; who signs in begins anew.
func TestGuessingIsThrottled(t *testing.T) {
	b := newBed(t)
	b.user("jane.doe")
	for _, login := range []string{"jane.doe", "nobody"} {
		for range maxAttempts - 1 {
			if err := b.attempts.take(b.UserID(acme, login), b.clock.now()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.signIn(acme, login, "wrong wrong"); !errors.Is(err, ErrSignIn) {
			t.Errorf("%s: the last attempt: %v", login, err)
		}
		_, err := b.signIn(acme, login, "jane.doejane.doe")
		if f := fault.Of(err); f.Code != "sign_in_throttled" || f.RetryAfter != attemptWindow || f.Kind != fault.Exhausted {
			t.Errorf("%s: one more: %v", login, err)
		}
	}
	b.clock.move(attemptWindow)
	if _, err := b.signIn(acme, "jane.doe", "jane.doejane.doe"); err != nil {
		t.Error(err)
	}
	if n := b.attempts.of[b.UserID(acme, "jane.doe")].n; n != 0 {
		t.Errorf("%d attempts after the right password", n)
	}
}

// A thousand attempts at once are a thousand attempts.
func TestAttemptsAtOnce(t *testing.T) {
	var a attempts
	var all sync.WaitGroup
	var let atomic.Int32
	for range 1000 {
		all.Go(func() {
			if a.take("usr_1", time.Unix(0, 0)) == nil {
				let.Add(1)
			}
		})
	}
	all.Wait()
	if let.Load() != maxAttempts {
		t.Errorf("%d were let through", let.Load())
	}
}

// What is remembered of attempts has a bound.
func TestAttemptsAreForgotten(t *testing.T) {
	var a attempts
	now := time.Unix(0, 0)
	for i := range 2 * maxLogins {
		if err := a.take(UserID(strconv.Itoa(i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.of) > maxLogins {
		t.Errorf("%d logins", len(a.of))
	}
	if err := a.take("x", now.Add(attemptWindow)); err != nil || len(a.of) > maxLogins {
		t.Errorf("%d logins, %v", len(a.of), err)
	}
}
