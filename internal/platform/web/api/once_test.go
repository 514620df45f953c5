package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

func TestCommandsAreDoneOnce(t *testing.T) {
	b := start(t, setting{})
	const body = `{"name":"cog"}`
	first := b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", "k1")
	again := b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", `"k1"`) // quoted, the same
	if first.StatusCode != 201 || again.StatusCode != 201 || first.text != again.text || len(b.widgets) != 1 {
		t.Errorf("first %d %s, again %d %s, %d widgets", first.StatusCode, first.text, again.StatusCode, again.text, len(b.widgets))
	}
	if again.Header.Get("Idempotent-Replayed") != "true" || first.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("replayed: %q, %q", first.Header.Get("Idempotent-Replayed"), again.Header.Get("Idempotent-Replayed"))
	}
	for _, name := range []string{"Location", "Etag", "Content-Type", "Cache-Control"} {
		if first.Header.Get(name) != again.Header.Get(name) {
			t.Errorf("%s: %q, then %q", name, first.Header.Get(name), again.Header.Get(name))
		}
	}
	if first.Header.Get("Request-Id") == again.Header.Get("Request-Id") {
		t.Error("the request's id is repeated")
	}
	if got := b.send("POST", "/v1/widgets", `{"name":"gear"}`, writer, "Idempotency-Key", "k1").problem(t); got.Status != 422 || got.Code != "idempotency_key_reused" {
		t.Errorf("another body: %+v", got)
	}
	if got := b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", "k 1").problem(t); got.Status != 400 || got.Code != "idempotency_key_invalid" {
		t.Errorf("a malformed key: %+v", got)
	}
	if got := b.send("POST", "/v1/widgets", body, stranger, "Idempotency-Key", "k1"); got.StatusCode != 201 || got.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another tenant gets %d %s", got.StatusCode, got.text)
	}
	if len(b.operations) != 2 || b.operations[0] == "" || b.operations[0] == b.operations[1] {
		t.Errorf("operations %q", b.operations)
	}
}

func TestFailuresCanBeTriedAgain(t *testing.T) {
	b := start(t, setting{})
	send := func(body string) answer {
		return b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", "k")
	}
	if got := send(`{"name":""}`); got.StatusCode != 422 {
		t.Fatalf("got %d", got.StatusCode)
	}
	// Nothing was done: the key is free for the corrected request, whatever fails next.
	const body = `{"name":"cog"}`
	for _, err := range []error{errors.New("lost"), fault.New(fault.Unavailable, "full"), fault.New(fault.Conflict, "busy").WithRetryAfter(time.Second)} {
		b.fail = err
		if got := send(body); got.StatusCode < 400 {
			t.Fatalf("%v: got %d", err, got.StatusCode)
		}
	}
	if got := send(body); got.StatusCode != 201 {
		t.Errorf("at last: %d %s", got.StatusCode, got.text)
	}
	for _, id := range b.operations {
		if id != b.operations[0] {
			t.Errorf("the operation's id changes: %q", b.operations)
		}
	}
	// A final failure is repeated.
	b.fail = fault.New(fault.NotFound, "no such part")
	first := b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", "k2")
	again := b.send("POST", "/v1/widgets", body, writer, "Idempotency-Key", "k2")
	if first.StatusCode != 404 || again.StatusCode != 404 || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("first %d, again %d %v", first.StatusCode, again.StatusCode, again.Header)
	}
}

func TestRepetitionsInFlightWait(t *testing.T) {
	b := start(t, setting{})
	b.hold = make(chan struct{})
	done := make(chan answer)
	go func() {
		done <- b.send("POST", "/v1/widgets", `{"name":"cog"}`, writer, "Idempotency-Key", "k")
	}()
	waitFor(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.operations) == 1 })
	got := b.send("POST", "/v1/widgets", `{"name":"cog"}`, writer, "Idempotency-Key", "k")
	if p := got.problem(t); p.Status != 409 || p.Code != "idempotency_in_flight" || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %s %v", got.text, got.Header)
	}
	close(b.hold)
	if first := <-done; first.StatusCode != 201 {
		t.Errorf("the first got %d", first.StatusCode)
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	b := start(t, setting{more: func(_ *echo.Echo, b *bed) {
		Register(b.api, Operation{
			ID: "create-secret", Method: "POST", Path: "/secrets", Summary: "Create a secret", Permission: canWrite, Idempotency: KeyRequired, Secret: true,
		}, func(context.Context, *struct{}) (*struct{ Body Part }, error) {
			return &struct{ Body Part }{Part{Material: "s3cret"}}, nil
		})
	}})
	if got := b.send("POST", "/v1/secrets", "", writer); got.problem(t).Code != "idempotency_key_missing" || got.StatusCode != 400 {
		t.Errorf("without a key: %d %s", got.StatusCode, got.text)
	}
	if got := b.send("POST", "/v1/secrets", "", writer, "Idempotency-Key", "k"); got.StatusCode != 200 || !strings.Contains(got.text, "s3cret") {
		t.Errorf("first: %d %s", got.StatusCode, got.text)
	}
	if got := b.send("POST", "/v1/secrets", "", writer, "Idempotency-Key", "k"); got.problem(t).Code != "answer_not_kept" || strings.Contains(got.text, "s3cret") {
		t.Errorf("again: %d %s", got.StatusCode, got.text)
	}
}
