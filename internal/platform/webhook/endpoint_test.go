package webhook

import (
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

func TestWants(t *testing.T) {
	for _, tt := range []struct {
		events []string
		event  string
		want   bool
	}{
		{[]string{"*"}, "a.b", true},
		{[]string{"batch.*"}, "batch.completed", true},
		{[]string{"batch.*"}, "batches.completed", false},
		{[]string{"batch.completed"}, "batch.completed", true},
		{[]string{"batch.completed"}, "batch.completed_not", false},
		{[]string{"x.y", "batch.failed"}, "batch.failed", true},
		{nil, "a.b", false},
	} {
		e := Endpoint{Events: tt.events}
		if got := e.Wants(tt.event); got != tt.want {
			t.Errorf("%v wants %s: %t", tt.events, tt.event, got)
		}
		e.Disabled = true
		if e.Wants(tt.event) {
			t.Errorf("%v, disabled, wants %s", tt.events, tt.event)
		}
	}
}

func TestDisable(t *testing.T) {
	e := Endpoint{URL: "https://example.com", Events: []string{"*"}}
	e.Version = 1
	e.Disable(Gone)
	e.Disable(Failing)
	if !e.Disabled || e.Reason != Gone || len(e.Root.Events()) != 1 || e.Root.Events()[0].EventType() != "webhook_endpoint.disabled" {
		t.Errorf("%+v with events %v", e, e.Root.Events())
	}
	if err := e.Set(e.URL, e.Events, false); err != nil || e.Disabled || e.Reason != "" {
		t.Errorf("enabled again it is %+v, %v", e, err)
	}
}
