package spare

import (
	"context"
	"sync"
)

// lent is a turn that what its holder calls may give up and take again.
type lent struct {
	mu   sync.Mutex
	turn *Turn // nil once the holder goes on
}

type lentKey struct{}

// Lend runs f with a context by which what f calls can give the turn up while it waits, see
// Pause. When f ends the turn is taken again, and the context does nothing any more.
func (t *Turn) Lend(ctx context.Context, f func(ctx context.Context)) {
	if t.of == nil {
		f(ctx)
		return
	}
	l := &lent{turn: t}
	defer func() {
		l.mu.Lock()
		l.turn = nil
		l.mu.Unlock()
		if !t.held {
			_ = t.take(ctx) // who has no turn any more is to end anyway
		}
	}()
	f(context.WithValue(ctx, lentKey{}, l))
}

// Pause gives up the turn that Lend put into a context, if any, for a wait whose length depends on others.
func Pause(ctx context.Context) { change(ctx, (*Turn).Done) }

// Resume takes that turn again at once, also where none is left: for work that others, such as
// requests, wait for. Turns beyond those that there are end with the next Yield.
func Resume(ctx context.Context) { change(ctx, (*Turn).force) }

func change(ctx context.Context, f func(*Turn)) {
	l, _ := ctx.Value(lentKey{}).(*lent)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn != nil {
		f(l.turn)
	}
}

// force takes the turn whether one is left or not. since stays as it is, so that the next Yield looks.
func (t *Turn) force() {
	if t.held {
		return
	}
	t.held = true
	t.of.mu.Lock()
	t.of.taken++
	t.of.mu.Unlock()
}
