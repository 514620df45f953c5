package webhook

import (
	"bytes"
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
)

// publicSecret is that of the examples of Standard Webhooks.
const publicSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var sixteen = time.Unix(1614265330, 0)

func TestSignatureOfTheStandard(t *testing.T) {
	e := Endpoint{Secrets: []Secret{{Text: secret.Of(publicSecret)}}}
	got, err := e.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	for name, other := range map[string]func() (string, error){
		"id": func() (string, error) {
			return e.Sign("msg_p5jXN8AQM9LWM0D4loKWxJel", sixteen, []byte(`{"test": 2432232314}`))
		},
		"time": func() (string, error) {
			return e.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen.Add(time.Second), []byte(`{"test": 2432232314}`))
		},
		"body": func() (string, error) {
			return e.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", sixteen, []byte(`{"test":2432232314}`))
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
		e := Endpoint{Secrets: []Secret{{Text: s}}}
		text, err := e.Sign("id", at, []byte("body"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	e := Endpoint{Secrets: []Secret{{Text: made(1)}}}
	signed := func(at time.Time, by ...secret.Text) {
		t.Helper()
		var want []string
		for _, s := range by {
			want = append(want, alone(s, at))
		}
		if got, err := e.Sign("id", at, []byte("body")); got != strings.Join(want, " ") || err != nil {
			t.Errorf("at %s: %s, %v, want %q", at.Sub(now), got, err, want)
		}
	}
	e.Rotate(made(2), now, time.Hour)
	if !e.Fresh.Equal(made(2)) {
		t.Error("the new secret is not told")
	}
	signed(now, made(2), made(1))
	signed(now.Add(time.Hour-time.Second), made(2), made(1))
	signed(now.Add(time.Hour), made(2))
	e.Rotate(made(3), now.Add(30*time.Minute), 2*time.Hour)
	signed(now.Add(31*time.Minute), made(3), made(2), made(1)) // the first still ends when it was to
	signed(now.Add(time.Hour), made(3), made(2))
	e.Rotate(made(4), now.Add(time.Hour), 0) // a leak
	signed(now.Add(time.Hour), made(4))
	for n := range byte(10) {
		e.Rotate(made(10+n), now.Add(2*time.Hour), time.Hour)
	}
	if len(e.Secrets) != maxSecrets || !e.Secrets[maxSecrets-1].Text.Equal(made(19)) {
		t.Errorf("%d secrets", len(e.Secrets))
	}
	for _, event := range e.Root.Events() {
		if data, err := json.Marshal(event); err != nil || strings.Contains(string(data), secretPrefix) {
			t.Errorf("%s, %v", data, err)
		}
	}
}

func TestSecretsThatCannotSign(t *testing.T) {
	for text, code := range map[string]string{"whsec_": "webhook_secret_malformed", "whsec_%": "webhook_secret_malformed"} {
		e := Endpoint{Secrets: []Secret{{Text: secret.Of(text)}}}
		if _, err := e.Sign("id", sixteen, nil); fault.CodeOf(err) != "internal" && fault.CodeOf(err) != code || err == nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	ended := Endpoint{Secrets: []Secret{{Text: secret.Of(publicSecret), Until: sixteen}}}
	if signature, err := ended.Sign("id", sixteen, nil); err == nil {
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

// Only the store's JSON holds secrets; whatever else prints an endpoint does not.
func TestSecretsAreNotShown(t *testing.T) {
	e := Endpoint{URL: "https://example.com", Secrets: []Secret{{Text: secret.Of(publicSecret), Until: sixteen}}, Fresh: secret.Of(publicSecret)}
	e.ID = "whk_1"
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "endpoint", e, "secrets", fmt.Sprint(e.Secrets))
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", e, e, e.Secrets, e.Secrets), log.String()} {
		if strings.Contains(shown, "MfKQ9r8") {
			t.Errorf("shown in %s", shown)
		}
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back Endpoint
	if err := json.Unmarshal(data, &back); err != nil || !slices.EqualFunc(back.Secrets, e.Secrets, func(a, b Secret) bool { return a.Text.Equal(b.Text) && a.Until.Equal(b.Until) }) || !back.Fresh.IsZero() {
		t.Errorf("%s came back as %v, %v", strconv.Quote(string(data)), back, err)
	}
}
