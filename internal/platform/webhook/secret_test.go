package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/seal"
)

// publicSecret is that of the examples of Standard Webhooks.
const publicSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var sixteen = time.Unix(1614265330, 0)

var ring = keys(seal.NewKey())

func keys(text string) *seal.Ring {
	r, err := seal.Parse(text)
	if err != nil {
		panic(err)
	}
	return r
}

// signing is an endpoint with a secret.
func signing(text string) Endpoint {
	var e Endpoint
	e.ID = "whk_1"
	e.Begin(ring, secret.Of(text))
	return e
}

func TestSignatureOfTheStandard(t *testing.T) {
	e := signing(publicSecret)
	got, err := e.Sign(ring, "msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	for name, other := range map[string]func() (string, error){
		"id": func() (string, error) {
			return e.Sign(ring, "msg_p5jXN8AQM9LWM0D4loKWxJel", sixteen, []byte(`{"test": 2432232314}`))
		},
		"time": func() (string, error) {
			return e.Sign(ring, "msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen.Add(time.Second), []byte(`{"test": 2432232314}`))
		},
		"body": func() (string, error) {
			return e.Sign(ring, "msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen, []byte(`{"test":2432232314}`))
		},
	} {
		if signature, err := other(); signature == got || err != nil {
			t.Errorf("another %s has the same signature, %v", name, err)
		}
	}
}

// During a rotation both secrets sign, the newest first; after it the new one does
// alone.
func TestRotation(t *testing.T) {
	now := sixteen
	made := func(n byte) secret.Text {
		s, err := NewSecret(bytes.NewReader(bytes.Repeat([]byte{n}, secretBytes)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alone := func(s secret.Text, at time.Time) string {
		e := signing(s.Reveal())
		text, err := e.Sign(ring, "id", at, []byte("body"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	e := signing(made(1).Reveal())
	signed := func(at time.Time, by ...secret.Text) {
		t.Helper()
		var want []string
		for _, s := range by {
			want = append(want, alone(s, at))
		}
		if got, err := e.Sign(ring, "id", at, []byte("body")); got != strings.Join(want, " ") || err != nil {
			t.Errorf("at %s: %s, %v, want %q", at.Sub(now), got, err, want)
		}
	}
	e.Rotate(ring, made(2), now, time.Hour)
	if !e.Fresh.Equal(made(2)) {
		t.Error("the new secret is not told")
	}
	signed(now, made(2), made(1))
	signed(now.Add(time.Hour-time.Second), made(2), made(1))
	signed(now.Add(time.Hour), made(2))
	e.Rotate(ring, made(3), now.Add(30*time.Minute), 2*time.Hour)
	signed(now.Add(31*time.Minute), made(3), made(2), made(1)) // the first still ends when it was to
	signed(now.Add(time.Hour), made(3), made(2))
	e.Rotate(ring, made(4), now.Add(time.Hour), 0) // a leak
	signed(now.Add(time.Hour), made(4))
	for n := range byte(10) {
		e.Rotate(ring, made(10+n), now.Add(2*time.Hour), time.Hour)
	}
	signed(now.Add(2*time.Hour), made(19), made(18), made(17), made(16), made(15)) // maxSecrets
	for _, event := range e.Root.Events() {
		if data, err := json.Marshal(event); err != nil || strings.Contains(string(data), secretPrefix) {
			t.Errorf("%s, %v", data, err)
		}
	}
}

func TestSecretsThatCannotSign(t *testing.T) {
	for text, code := range map[string]string{"whsec_": "webhook_secret_malformed", "whsec_%": "webhook_secret_malformed"} {
		e := signing(text)
		if _, err := e.Sign(ring, "id", sixteen, nil); fault.CodeOf(err) != "internal" && fault.CodeOf(err) != code || err == nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	ended := signing(publicSecret)
	ended.Secrets[0].Until = sixteen
	if signature, err := ended.Sign(ring, "id", sixteen, nil); err == nil {
		t.Errorf("signed with a secret that has ended: %s", signature)
	}
}

func TestSecretsAreMade(t *testing.T) {
	s, err := NewSecret(bytes.NewReader(make([]byte, secretBytes)))
	if err != nil || s.Reveal() != "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, secretBytes)) {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := NewSecret(bytes.NewReader(nil)); err == nil {
		t.Error("a secret of nothing")
	}
}

// Nothing that prints or stores an endpoint shows its secrets.
func TestSecretsAreNotShown(t *testing.T) {
	e := signing(publicSecret)
	e.URL, e.Secrets[0].Until = "https://example.com", sixteen
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "endpoint", e, "secrets", fmt.Sprint(e.Secrets))
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", e, e, e.Secrets, e.Secrets), log.String(), string(data)} {
		if strings.Contains(shown, "MfKQ9r8") {
			t.Errorf("shown in %s", shown)
		}
	}
	var back Endpoint
	if err := json.Unmarshal(data, &back); err != nil || !slices.EqualFunc(back.Secrets, e.Secrets, func(a, b Secret) bool { return a.Sealed == b.Sealed && a.Until.Equal(b.Until) }) || !back.Fresh.IsZero() {
		t.Errorf("%s came back as %v, %v", strconv.Quote(string(data)), back, err)
	}
}

// A secret signs for the endpoint that it was sealed for, and for no other.
func TestSecretsAreBoundToTheirEndpoint(t *testing.T) {
	e, other := signing(publicSecret), Endpoint{}
	other.ID, other.Secrets = "whk_2", e.Secrets
	if signature, err := other.Sign(ring, "id", sixteen, nil); fault.CodeOf(err) != "webhook_secret_sealed" {
		t.Errorf("%s, %v", signature, err)
	}
}

// Keys are rotated without a signature that fails: what the old one has sealed
// opens until it is sealed again, and then nobody needs the old one.
func TestReseal(t *testing.T) {
	old, fresh := seal.NewKey(), seal.NewKey()
	before, during, after := keys(old), keys(fresh+old), keys(fresh)
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	if err := store.Driver().Migrate(t.Context(), Schemas()); err != nil {
		t.Fatal(err)
	}
	scope := repo.Scope{Tenant: "t", Actor: "system"}
	add := func(id EndpointID, by *seal.Ring) {
		t.Helper()
		err := store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
			e := &Endpoint{}
			e.ID = id
			e.Begin(by, secret.Of(publicSecret))
			e.Rotate(by, secret.Of(publicSecret), tx.Now(), time.Hour)
			return Endpoints.Add(ctx, tx, e)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add("whk_1", before)
	add("whk_2", before)
	add("whk_3", keys(seal.NewKey())) // of a key that is lost
	n, err := Reseal(t.Context(), store, scope, during)
	if n != 2 || err == nil || !strings.Contains(err.Error(), "whk_3") {
		t.Errorf("%d, %v", n, err)
	}
	for id, signs := range map[EndpointID]bool{"whk_1": true, "whk_2": true, "whk_3": false} {
		e, err := Endpoints.Get(t.Context(), store.Read(scope), id)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := e.Sign(after, "id", sixteen, nil); (err == nil) != signs || signs && strings.Count(text, "v1,") != 2 {
			t.Errorf("%s: %q, %v", id, text, err)
		}
	}
	if n, err := Reseal(t.Context(), store, scope, during); n != 0 || err == nil {
		t.Errorf("again: %d, %v", n, err)
	}
}
