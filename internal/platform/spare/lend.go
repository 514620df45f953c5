package spare

import (
	"context"
	"sync"
)

// lent is a turn that those whom its holder calls give up for it.
type lent struct {
	mu   sync.Mutex
	turn *Turn // nil once the holder goes on
}

type lentKey struct{}

// Lend runs f with a context by which what it calls can give the turn up while it waits, see Pause.
// The turn is taken again when f ends. Others' use of the context after that does nothing.
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

// Pause gives the turn up that a context was lent, if any, for a wait whose length depends on others.
func Pause(ctx context.Context) { change(ctx, (*Turn).Done) }

// Resume takes that turn again at once, even where there are no more: for who is waited for by others, such
// as requests, and must not wait for a turn. The turns that are too many are given up by Yield.
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

// force takes the turn whether there is one or not. It counts as one that has lasted: the next Yield looks.
func (t *Turn) force() {
	if t.held {
		return
	}
	t.held = true
	t.of.mu.Lock()
	t.of.taken++
	t.of.mu.Unlock()
}
