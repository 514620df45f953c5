package cql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/gocql/gocql"

	"sluice/internal/platform/fault"
)

func TestTranslate(t *testing.T) {
	conflict := fault.New(fault.Conflict, "changed meanwhile")
	refused := func(code int) error {
		e := &gocql.RequestErrReadTimeout{}
		e.Code = code
		return fmt.Errorf("wrapped: %w", e)
	}
	for what, c := range map[string]struct {
		err  error
		kind fault.Kind
		none bool // it had no effect
	}{
		"no connection":  {gocql.ErrNoConnections, fault.Unavailable, true},
		"lost":           {gocql.ErrConnectionClosed, fault.Unavailable, false},
		"silence":        {gocql.ErrTimeoutNoResponse, fault.Unavailable, false},
		"cut":            {io.ErrUnexpectedEOF, fault.Unavailable, false},
		"time is over":   {context.DeadlineExceeded, fault.Unavailable, false},
		"given up":       {context.Canceled, fault.Unavailable, false}, // by gocql
		"too few nodes":  {refused(gocql.ErrCodeUnavailable), fault.Unavailable, true},
		"write timeout":  {refused(gocql.ErrCodeWriteTimeout), fault.Unavailable, false},
		"CAS unknown":    {refused(gocql.ErrCodeCASWriteUnknown), fault.Unavailable, false},
		"overloaded":     {refused(gocql.ErrCodeOverloaded), fault.Unavailable, false},
		"wrong password": {refused(gocql.ErrCodeCredentials), fault.Internal, true},
		"a defect":       {refused(gocql.ErrCodeSyntax), fault.Internal, true},
		"server error":   {refused(gocql.ErrCodeServer), fault.Internal, false},
		"too often":      {&gocql.RequestErrRateLimitReached{}, fault.Exhausted, false},
		"too large":      {gocql.ErrFrameTooBig, fault.TooLarge, false},
		"closed":         {gocql.ErrSessionClosed, fault.Unavailable, true},
		"classified":     {conflict, fault.Conflict, false},
	} {
		err := Translate(t.Context(), c.err)
		if !fault.Is(err, c.kind) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v is %s, expected %s", what, err, fault.Of(err).Kind, c.kind)
		}
		if got := NotDone(c.err); got != c.none {
			t.Errorf("%s: had no effect: %t, expected %t", what, got, c.none)
		}
		if c.kind == fault.Unavailable && what != "closed" && fault.Of(err).RetryAfter == 0 {
			t.Errorf("%s: says not when to try again", what)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := Translate(gone, fmt.Errorf("wrapped: %w", context.Canceled)); !fault.Is(err, fault.Canceled) {
		t.Errorf("the caller went away: %v", err)
	}
	if Translate(t.Context(), nil) != nil {
		t.Error("no error became one")
	}
}

func TestSplit(t *testing.T) {
	got := Split("-- why; not\nCREATE a (\n  b int -- c\n);\n\nCREATE d;\n")
	if len(got) != 2 || got[0] != "CREATE a ( b int )" || got[1] != "CREATE d" {
		t.Errorf("%q", got)
	}
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	all, err := readMigrations(fstest.MapFS{"migrations/b.cql": file("CREATE b"), "migrations/a.cql": file("CREATE a"), "other.cql": file("CREATE c")})
	if err != nil || len(all) != 2 || all[0].name != "a.cql" || all[1].name != "b.cql" || len(all[0].checksum) != 64 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What is under way when one fails ends; the others do not begin.
func TestEach(t *testing.T) {
	var begun atomic.Int32
	if err := Each(1000, func(int) error { begun.Add(1); return nil }); err != nil || begun.Load() != 1000 {
		t.Errorf("%d began, %v", begun.Load(), err)
	}
	begun.Store(0)
	err := Each(1000, func(int) error { begun.Add(1); return io.ErrUnexpectedEOF })
	if !errors.Is(err, io.ErrUnexpectedEOF) || begun.Load() > Together+1 { // one waited for its turn
		t.Errorf("%d began, %v", begun.Load(), err)
	}
}
