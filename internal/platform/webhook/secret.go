package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// Secret signs what an endpoint is sent. Whatever prints it does not show it; only
// the store's JSON holds it as it is.
type Secret struct {
	Text  secret.Text // whsec_ and base64, as Standard Webhooks has it
	Until time.Time   // zero: until it is replaced
}

// kept is a secret as the store keeps it.
type kept struct {
	Text  string    `json:"text"`
	Until time.Time `json:"until,omitzero"`
}

// MarshalJSON writes the secret for the store.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(kept{s.Text.Reveal(), s.Until}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Secret) UnmarshalJSON(data []byte) error {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return err
	}
	s.Text, s.Until = secret.Of(k.Text), k.Until
	return nil
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

// Rotate has a new secret sign. The others still do until the overlap is over, so
// that the receiver can change in its own time.
func (e *Endpoint) Rotate(fresh secret.Text, now time.Time, overlap time.Duration) {
	until := now.Add(overlap)
	good := slices.Clone(e.Secrets)
	for i := range good {
		if good[i].Until.IsZero() || until.Before(good[i].Until) {
			good[i].Until = until
		}
	}
	good = append(slices.DeleteFunc(good, func(s Secret) bool { return s.ended(now) }), Secret{Text: fresh})
	e.Secrets = good[max(len(good)-maxSecrets, 0):]
	e.Fresh = fresh
	e.Record(SecretRotated{until})
}

func (s Secret) ended(now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

// Sign returns the webhook-signature header of a message that is sent now: a
// signature by each secret that is good, the newest first, with blanks between.
func (e *Endpoint) Sign(id string, now time.Time, body []byte) (string, error) {
	var signatures []string
	for _, s := range slices.Backward(e.Secrets) {
		if s.ended(now) {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Text.Reveal(), secretPrefix))
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

// sign is the symmetric signature of Standard Webhooks: HMAC-SHA256 of the id, the
// time in seconds and the body, with full stops between.
func sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(strconv.AppendInt([]byte(id+"."), at.Unix(), 10))
	mac.Write([]byte("."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
