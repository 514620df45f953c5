package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestOfClassifies(t *testing.T) {
	late := New(Unavailable, "full").WithCode("queue_full").WithRetryAfter(time.Second)
	for _, c := range []struct {
		err  error
		kind Kind
		code string
	}{
		{late, Unavailable, "queue_full"},
		{fmt.Errorf("wrapped: %w", late), Unavailable, "queue_full"},
		{context.Canceled, Canceled, "canceled"},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), DeadlineExceeded, "deadline_exceeded"},
		{errors.New("secret of the database"), Internal, "internal"},
	} {
		if got := Of(c.err); got.Kind != c.kind || CodeOf(c.err) != c.code {
			t.Errorf("Of(%v) is %s with code %s, want %s with %s", c.err, got.Kind, CodeOf(c.err), c.kind, c.code)
		}
	}
	if Of(nil) != nil || Is(nil, Internal) || CodeOf(nil) != "" {
		t.Error("no error was classified as one")
	}
}

// What an unclassified error says is for the log, never for the caller.
func TestUnclassifiedErrorsAreHidden(t *testing.T) {
	e := Of(errors.New("password=hunter2"))
	if strings.Contains(e.Message, "hunter2") {
		t.Errorf("the caller would be shown %q", e.Message)
	}
	if !strings.Contains(e.Error(), "hunter2") {
		t.Errorf("the log would lose the cause: %q", e.Error())
	}
}

func TestRetryableKinds(t *testing.T) {
	for k := Internal; k <= Gone; k++ {
		want := k == Exhausted || k == Unavailable || k == DeadlineExceeded
		if k.Retryable() != want {
			t.Errorf("%s: retryable is %t", k, k.Retryable())
		}
		if strings.Contains(k.String(), " ") || k.String() == "" {
			t.Errorf("kind %d has no usable name: %q", k, k)
		}
	}
}

func TestTextIsClipped(t *testing.T) {
	long := New(Invalid, "%s", strings.Repeat("ü", 10_000)).Text()
	if len(long) > MaxText || len(long) < MaxText-4 || !utf8.ValidString(long) || !strings.HasSuffix(long, "ü…") {
		t.Errorf("%d bytes, ending in %q", len(long), long[len(long)-8:])
	}
	for text, want := range map[string]string{"": "", "short": "short", "12345678": "12345678", "123456789": "12345…", "1234ü789": "1234…", "a\xffb": "a?b", strings.Repeat("\x80", 9): "…"} {
		if got := Clip(text, 8); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
