package webhook

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestAddresses(t *testing.T) {
	for _, good := range []string{"https://example.com", "https://example.com:8443/a?b=c"} {
		if err := CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "http://example.com", "https://", "https:///x", "https://u:p@example.com", "https://example.com/#x", "ftp://x", "example.com",
		"https://example.com/" + strings.Repeat("x", 2048), "https://exa mple.com"} {
		if err := CheckURL(bad); !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSet(t *testing.T) {
	var e Endpoint
	if err := e.Set("https://example.com", []string{"batch.*", "export.completed", "*"}, false); err != nil || len(e.Events) != 3 || len(e.Root.Events()) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	e.Version = 1
	if err := e.Set("https://example.com", []string{"batch.*", "export.completed", "*"}, false); err != nil || len(e.Root.Events()) != 1 {
		t.Errorf("nothing changed, but events are %v, %v", e.Root.Events(), err)
	}
	for _, bad := range []string{"", "batch", "batch.", ".x", "Batch.x", "**", "batch.*.x"} {
		if err := e.Set("https://example.com", []string{bad}, false); fault.CodeOf(err) != "event_type_malformed" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	s, err := NewSecret(bytes.NewReader(make([]byte, secretBytes)))
	if err != nil || s.Reveal() != "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, secretBytes)) || strings.Contains(fmt.Sprintf("%v %+v %#v", s, s, s), "whsec_") {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := NewSecret(bytes.NewReader(nil)); err == nil {
		t.Error("a secret of nothing")
	}
}
