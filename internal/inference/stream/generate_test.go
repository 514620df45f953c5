package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// Many generations at once each give the reference's steps, and say why they end.
func TestGenerationsEqualTheReference(t *testing.T) {
	b := newBed(t, Config{})
	ctx := as(t.Context(), "t")
	var wg sync.WaitGroup
	for x := range int64(40) {
		wg.Go(func() {
			c := &call{model: "write", x: x, outputs: []string{"y"}}
			limit := streamtest.MaxSteps
			if x%3 == 0 {
				c.steps = int(x)
				limit = max(1, int(x))
				if x == 0 {
					limit = streamtest.MaxSteps
				}
			}
			want, ended := streamtest.Written(x, limit)
			if err := b.Generate(ctx, c, nil); err != nil {
				t.Error(err)
				return
			}
			if diff := cmp.Diff(want, c.y); diff != "" {
				t.Errorf("from %d: %s", x, diff)
			}
			for i, at := range c.places {
				if last := i == len(want)-1; at.Number != i+1 || at.More == last || last && at.Ended != ended {
					t.Errorf("from %d: step %d of %d is %+v", x, i+1, len(want), at)
				}
			}
			if fmt.Sprint(c.names) != "[y]" {
				t.Errorf("got outputs %v", c.names)
			}
		})
	}
	wg.Wait()
	c := &call{model: "write", x: streamtest.Beginning()}
	if err := b.Generate(ctx, c, nil); err != nil || c.places[len(c.places)-1].Ended != serve.EndValue || fmt.Sprint(c.names) != "[y next]" {
		t.Errorf("%v, %v, %v", err, c.places, c.names)
	}
	if n, held := b.metric(t, "sluice_inference_generations_total"), b.metric(t, "sluice_inference_sequences"); n != 41 || held != 0 {
		t.Errorf("%v generations ended, %v are held", n, held)
	}
}

func TestGenerationEnds(t *testing.T) {
	b := newBed(t, Config{})
	ctx, leave := context.WithCancel(as(t.Context(), "t"))
	gone := &call{model: "write", x: 1, on: func(s serve.Step) error {
		if s.Number == 3 {
			leave()
		}
		return nil
	}}
	if err := b.Generate(ctx, gone, nil); !fault.Is(err, fault.Canceled) || len(gone.y) != 3 {
		t.Errorf("a client that leaves: %v, %d steps", err, len(gone.y))
	}
	ctx = as(t.Context(), "t")
	broken := errors.New("broken")
	if err := b.Generate(ctx, &call{model: "write", x: 1, on: func(serve.Step) error { return broken }}, nil); !errors.Is(err, broken) {
		t.Errorf("an answer that cannot be written: %v", err)
	}
	if err := b.Generate(ctx, &call{model: "write", x: 1000}, nil); err == nil {
		t.Error("a step that fails")
	}
	if err := b.Generate(ctx, &call{model: "write", x: 1, seq: serve.Sequence{ID: "1"}}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a named sequence: %v", err)
	}
	one := &call{model: "plain", x: 5}
	if err := b.Generate(ctx, one, nil); err != nil || len(one.y) != 1 || one.places[0] != (serve.Step{}) {
		t.Errorf("a model that does not generate: %v, %v", one.y, err)
	}
	own := b.Own()
	for range 2 {
		one = &call{model: "roll", x: 5}
		if err := b.Generate(ctx, one, own); err != nil {
			t.Error(err)
		}
	}
	if one.y[0] != streamtest.Roll(streamtest.Roll(0, 5), 5) {
		t.Errorf("a stateful model gives %v", one.y)
	}
	b.Release(own)
	if b.table.total != (use{}) {
		t.Errorf("left: %+v", b.table.total)
	}
}

// A credential that is revoked in the middle of a generation ends it behind the
// step that was in progress; one that cannot be checked just now does not.
func TestGenerationsEndWithTheCredential(t *testing.T) {
	b := newBed(t, Config{})
	said := error(fault.New(fault.Unavailable, "the directory is away"))
	ctx := access.With(t.Context(), &access.Principal{Tenant: "t", Recheck: func(context.Context) error { return said }})
	c := &call{model: "write", x: 1, outputs: []string{"y"}, steps: 3}
	c.on = func(step serve.Step) error {
		if step.Number == 2 {
			said = fault.New(fault.Unauthenticated, "revoked")
		}
		return nil
	}
	if err := b.Generate(ctx, c, nil); fault.CodeOf(err) != "credential_invalid" || len(c.y) != 2 {
		t.Errorf("%d steps, %v", len(c.y), err)
	}
}
