package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "hunter2-canary"

// Whatever prints a secret, alone or within something, prints no secret.
func TestNothingPrintsASecret(t *testing.T) {
	type request struct {
		Name     string
		Password Text
		Pointer  *Text
		Many     []Text
		ByName   map[string]Text
	}
	s := Of(canary)
	r := request{"ann", s, &s, []Text{s}, map[string]Text{"a": s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s", "%T %[1]v"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", r)
		fmt.Fprintf(&out, verb+"\n", &r)
	}
	fmt.Fprintln(&out, s, r, errors.New("refused "+s.String()))
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("in", "secret", s, "pointer", &s, "request", r, slog.Group("g", "secret", s))
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	hex := fmt.Sprintf("%x", canary)
	if text := out.String(); strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), hex) || strings.Contains(text, canary[:3]) {
		t.Errorf("shown:\n%s", text)
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("nothing was printed")
	}
}

func TestSecretsAreRead(t *testing.T) {
	var r struct{ Password Text }
	if err := json.Unmarshal([]byte(`{"Password":"hunter2-canary"}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Password.Reveal() != canary || r.Password.Len() != len(canary) || r.Password.IsZero() {
		t.Error("another text")
	}
	if !r.Password.Equal(Of(canary)) || r.Password.Equal(Of(canary+"x")) || r.Password.Equal(Text{}) || !(Text{}).IsZero() {
		t.Error("compared wrongly")
	}
}
