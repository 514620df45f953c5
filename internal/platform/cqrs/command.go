package cqrs

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// repeatable is how long it is remembered that an operation was done.
const repeatable = 48 * time.Hour

// Handle registers the handler of a command. It needs the permission; what it
// writes to tx is committed, with the audit log's entry, where it returns nil.
// It may be called again after a conflict, as repo.Store.Do says.
func Handle[C Command[R], R any](b *Bus, permission access.Permission, handler func(ctx context.Context, tx *repo.Tx, c C) (R, error), opts ...Option) {
	var zero C
	HandleAs(b, zero.CommandName(), permission, handler, opts...)
}

// HandleAs is Handle for a type of commands with several names: the handler gets
// those of this name.
func HandleAs[C Command[R], R any](b *Bus, name string, permission access.Permission, handler func(ctx context.Context, tx *repo.Tx, c C) (R, error), opts ...Option) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	tenant := tenantOf(o)
	r := &route[C, R]{Route: Route{name, permission, true}}
	r.run = b.around(r.Route, func(ctx context.Context, call *Call) error {
		inv := call.payload.(*invocation[C, R])
		if err := r.check(inv.input); err != nil {
			return err
		}
		return b.work(ctx, call, tenant(call.Principal), func(ctx context.Context, tx *repo.Tx) (err error) {
			if rule := b.rules[call.Name]; rule != nil {
				if err := rule(ctx, tx, call.target[1]); err != nil {
					return err
				}
			}
			if inv.result, err = handler(ctx, tx, inv.input); err != nil {
				return err
			}
			return b.auditDone(tx, call)
		})
	})
	register(b, r)
}

// Rule decides about the target of a command by what the permission cannot say:
// what the target is, and who the principal of ctx is. It reads in the command's
// unit of work, so that what it decides by holds when the command is done.
type Rule func(ctx context.Context, tx *repo.Tx, id string) error

// Restrict adds a rule that is asked before the handler of a Targeted command.
// One that refuses with fault.PermissionDenied is audited as a denial. It panics
// where there is no such command, or it has a rule already: defects.
func (b *Bus) Restrict(name string, rule Rule) {
	if b.handlers[name] == nil || b.rules[name] != nil {
		panic("cqrs: " + name + " cannot be restricted: it is not there, or has a rule already")
	}
	b.rules[name] = rule
}

// Send has a command handled, and returns what its handler does. A command that
// was sent before with the same Origin.Operation, and done, fails with
// repo.ErrProcessed.
func Send[C Command[R], R any](ctx context.Context, b *Bus, c C) (R, error) {
	return dispatch[C, R](ctx, b, c.CommandName(), c)
}

// work runs a unit of work, once only where the call may be repeated.
func (b *Bus) work(ctx context.Context, call *Call, tenant string, run func(ctx context.Context, tx *repo.Tx) error) error {
	scope := call.scope(tenant)
	if scope.Operation == uuid.Nil {
		return b.store.Do(ctx, scope, run)
	}
	consumer, operation := "command:"+call.Name, scope.Operation.String()
	err := b.store.Once(ctx, scope, consumer, operation, repeatable, run)
	if err == nil || !final(err) || call.target[1] == "" {
		return err
	}
	// What the operation did when it ran before, and its answer was lost, may be
	// why it is refused now: the version is not the expected one any more, say.
	if done, lookup := b.store.Handled(ctx, consumer, operation, repo.Key{Tenant: tenant, Kind: call.target[0], ID: call.target[1]}); done && lookup == nil {
		return repo.ErrProcessed
	}
	return err
}

// final says whether a command that failed so would fail again.
func final(err error) bool {
	switch fault.Of(err).Kind {
	case fault.NotFound, fault.Conflict, fault.PreconditionFailed, fault.Unprocessable, fault.Gone:
		return !errors.Is(err, repo.ErrProcessed)
	}
	return false
}
