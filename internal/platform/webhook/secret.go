package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/spec"
)

// Secret signs what an endpoint is sent.
type Secret struct {
	// Sealed is the text, whsec_ and base64 as Standard Webhooks has it, in the form
	// of package seal: signatures need it as it is, and a copy of the store must not
	// be enough to forge them.
	Sealed string    `json:"sealed"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is replaced
}

// LogValue keeps all but the id out of logs: they encode as JSON, too.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(string(e.ID)) }

const (
	secretPrefix = "whsec_"
	// secretBytes is within what Standard Webhooks recommends: 24 to 64.
	secretBytes = 32
	// maxSecrets bounds signatures: an endpoint that is rotated faster than
	// secrets end loses the oldest.
	maxSecrets = 5
)

// NewSecret makes a signing secret in the form of Standard Webhooks.
func NewSecret(random io.Reader) (secret.Text, error) {
	b := make([]byte, secretBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return secret.Text{}, fault.Wrap(fault.Internal, err, "no secret can be made")
	}
	return secret.Of(secretPrefix + base64.StdEncoding.EncodeToString(b)), nil
}

// place is what the endpoint's secrets are sealed for.
func (e *Endpoint) place() string { return Endpoints.Name + "/" + string(e.ID) }

// Begin gives a new endpoint, which has its id, the secret that signs.
func (e *Endpoint) Begin(keys *seal.Ring, fresh secret.Text) {
	e.Secrets, e.Fresh = []Secret{{Sealed: keys.Seal(fresh, e.place())}}, fresh
}

// Rotate has a new secret sign. The others still do until the overlap is over, so
// that the receiver can change in its own time.
func (e *Endpoint) Rotate(keys *seal.Ring, fresh secret.Text, now time.Time, overlap time.Duration) {
	until := now.Add(overlap)
	good := slices.Clone(e.Secrets)
	for i := range good {
		if good[i].Until.IsZero() || until.Before(good[i].Until) {
			good[i].Until = until
		}
	}
	good = append(slices.DeleteFunc(good, func(s Secret) bool { return s.ended(now) }), Secret{Sealed: keys.Seal(fresh, e.place())})
	e.Secrets = good[max(len(good)-maxSecrets, 0):]
	e.Fresh = fresh
	e.Record(SecretRotated{until})
}

func (s Secret) ended(now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

// Sign returns the webhook-signature header of a message that is sent now: a
// signature by each secret that is good, the newest first, with blanks between.
func (e *Endpoint) Sign(keys *seal.Ring, id string, now time.Time, body []byte) (string, error) {
	var signatures []string
	for _, s := range slices.Backward(e.Secrets) {
		if s.ended(now) {
			continue
		}
		text, err := keys.Open(s.Sealed, e.place())
		if err != nil {
			return "", fault.Wrap(fault.Internal, err, "a secret of the endpoint %s cannot be opened (%s): rotate it", e.ID, fault.Of(err).Message).WithCode("webhook_secret_sealed")
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text.Reveal(), secretPrefix))
		if err != nil || len(key) == 0 {
			return "", fault.New(fault.Internal, "a secret of the endpoint %s is not base64: rotate it", e.ID).WithCode("webhook_secret_malformed")
		}
		signatures = append(signatures, "v1,"+sign(key, id, now, body))
	}
	if len(signatures) == 0 {
		return "", fault.New(fault.Internal, "the endpoint %s has no secret that is good: rotate it", e.ID).WithCode("webhook_secret_missing")
	}
	return strings.Join(signatures, " "), nil
}

// outdated reports whether a secret is sealed with a key that is being replaced.
func (e *Endpoint) outdated(keys *seal.Ring) bool {
	return slices.ContainsFunc(e.Secrets, func(s Secret) bool { return !keys.Current(s.Sealed) })
}

// Reseal seals a tenant's secrets with the key that is in force, and returns for
// how many endpoints it has done so. What no key opens stays as it is, and is in
// the error.
func Reseal(ctx context.Context, store *repo.Store, scope repo.Scope, keys *seal.Ring) (n int, err error) {
	var failed []error
	for e, err := range Endpoints.All(ctx, store.Read(scope), spec.Query[Endpoint]{}) {
		if err != nil {
			return n, err
		}
		if !e.outdated(keys) {
			continue
		}
		err = store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			_, err := Endpoints.Update(ctx, tx, e.ID, func(e *Endpoint) error { return e.reseal(keys) })
			return err
		})
		if err != nil {
			failed = append(failed, fault.Wrap(fault.Internal, err, "the secrets of the endpoint %s stay under their old key", e.ID))
			continue
		}
		n++
	}
	return n, errors.Join(failed...)
}

func (e *Endpoint) reseal(keys *seal.Ring) error {
	fresh := slices.Clone(e.Secrets)
	for i := range fresh {
		text, err := keys.Open(fresh[i].Sealed, e.place())
		if err != nil {
			return err
		}
		fresh[i].Sealed = keys.Seal(text, e.place())
	}
	e.Secrets = fresh
	return nil
}

// sign is the symmetric signature of Standard Webhooks: HMAC-SHA256 of the id, the
// time in seconds and the body, with full stops between.
func sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(strconv.AppendInt([]byte(id+"."), at.Unix(), 10))
	mac.Write([]byte("."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
