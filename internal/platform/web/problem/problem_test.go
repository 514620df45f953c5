package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

func catalog(t *testing.T, types ...Type) *Catalog {
	t.Helper()
	c, err := NewCatalog("https://api.example", types...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestProblemsOfErrors(t *testing.T) {
	c := catalog(t, Type{"pot_full", "The queue is full", "Wait."})
	full := fault.Wrap(fault.Unavailable, errors.New("canary"), "the queue is full").WithCode("pot_full").WithRetryAfter(2 * time.Second)
	for name, tc := range map[string]struct {
		err  error
		want Problem
		wait string
	}{
		"described":   {fmt.Errorf("canary: %w", full), Problem{Type: "https://api.example/problems/pot_full", Title: "The queue is full", Status: 503, Detail: "the queue is full", Code: "pot_full", Retryable: true}, "2"},
		"kind only":   {fault.New(fault.NotFound, "none").WithCode("unheard_of"), Problem{Type: "https://api.example/problems/not_found", Title: "There is no such thing", Status: 404, Detail: "none", Code: "unheard_of"}, ""},
		"unknown":     {errors.New("canary"), Problem{Type: "https://api.example/problems/internal", Title: "The server failed", Status: 500, Detail: "internal error", Code: "internal"}, ""},
		"canceled":    {context.Canceled, Problem{Type: "https://api.example/problems/canceled", Title: "The request was cancelled", Status: 499, Detail: "the request was cancelled", Code: "canceled"}, ""},
		"no route":    {echo.ErrNotFound, Problem{Type: "https://api.example/problems/route_not_found", Title: "There is no such route", Status: 404, Detail: "Not Found", Code: "route_not_found"}, ""},
		"with status": {fault.New(fault.PreconditionFailed, "changed"), Problem{Type: "https://api.example/problems/precondition_failed", Title: "The thing has changed", Status: 412, Detail: "changed", Code: "precondition_failed"}, ""},
	} {
		p := c.Of(tc.err, "/x", "id")
		tc.want.Instance, tc.want.RequestID = "/x", "id"
		if diff := cmp.Diff(tc.want, *p, cmpopts.IgnoreUnexported(Problem{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := p.GetHeaders().Get("Retry-After"); got != tc.wait {
			t.Errorf("%s: Retry-After %q", name, got)
		}
		if text, _ := json.Marshal(p); strings.Contains(string(text), "canary") {
			t.Errorf("%s shows internals: %s", name, text)
		}
		if !errors.Is(p, tc.err) || p.GetStatus() != p.Status {
			t.Errorf("%s: the cause is lost for the log: %v", name, p)
		}
		if c.Of(fmt.Errorf("wrapped: %w", p), "", "") != p {
			t.Errorf("%s: a problem is not kept", name)
		}
	}
}

func TestDetails(t *testing.T) {
	err := fault.New(fault.Unprocessable, "three things are wrong").WithDetails(
		fault.Detail{Line: 2, Code: "empty", Message: "no name"}, fault.Detail{Pointer: "/a b/0", Code: "x", Message: "y"},
		fault.Detail{Pointer: "query.filter", Code: "z", Message: strings.Repeat("z", 10_000)})
	p := catalog(t).Of(fmt.Errorf("import: %w", err), "", "")
	want := []Violation{
		{Line: 2, Code: "empty", Detail: "no name"}, {Pointer: "#/a%20b/0", Code: "x", Detail: "y"},
		{Parameter: "query.filter", Code: "z", Detail: fault.Clip(strings.Repeat("z", 10_000), maxDetail)},
	}
	if diff := cmp.Diff(want, p.Errors); diff != "" || p.Status != 422 {
		t.Errorf("%d %s", p.Status, diff)
	}
}

// Every kind of fault and every code is described.
func TestCatalog(t *testing.T) {
	c := catalog(t)
	for k := fault.Internal; k <= fault.Gone; k++ {
		if _, ok := c.Lookup(k.String()); !ok {
			t.Errorf("%s is not described", k)
		}
	}
	for _, x := range c.All() {
		if strings.HasSuffix(x.Title, ".") || !strings.HasSuffix(x.Fix, ".") && !strings.HasSuffix(x.Fix, "…") {
			t.Errorf("%s: %q, %q", x.Code, x.Title, x.Fix)
		}
	}
	for _, bad := range []Type{{"internal", "a", "b"}, {"Bad Code", "a", "b"}, {"no_title", "", "b"}, {"no_fix", "a", ""}} {
		if _, err := NewCatalog("", bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	p := &Problem{}
	if p.ContentType("application/json") != MediaType || p.ContentType("text/plain") != "text/plain" || http.StatusText(400) == "" {
		t.Error("media types")
	}
}
