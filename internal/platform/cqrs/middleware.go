package cqrs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// authorise lets through who holds the permission, and what is valid. Denials
// and commands that came to nothing are audited by a unit of work of their own.
func (b *Bus) authorise(next Next) Next {
	next = b.recovered(next)
	return func(ctx context.Context, call *Call) error {
		err := access.Check(ctx, call.Permission)
		if err == nil && call.Principal.Expired(b.store.Now()) {
			err = errExpired // who was authenticated long ago, on a stream say
		}
		denied := err != nil
		if err == nil {
			err = next(ctx, call)
			denied = fault.Is(err, fault.PermissionDenied)
		}
		if err != nil && (denied || call.Command) && call.Principal != nil {
			b.auditRefused(ctx, call, err, denied)
		}
		return err
	}
}

var errExpired error = fault.New(fault.Unauthenticated, "the credential has ended since it was shown: send a new one").WithCode("credential_expired")

// recovered makes errors of panics: nothing of the command was committed, which
// is audited like other failures, and the caller goes on.
func (b *Bus) recovered(next Next) Next {
	return func(ctx context.Context, call *Call) (err error) {
		defer func() {
			if p := recover(); p != nil {
				b.cfg.Log.ErrorContext(ctx, "a handler panicked", "name", call.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				err = fault.New(fault.Internal, "%s failed by a defect of this program", call.Name).WithCode("panic")
			}
		}()
		return next(ctx, call)
	}
}

// observe measures and traces the calls of a route.
func (b *Bus) observe(r Route, next Next) Next {
	m := b.metrics.of(r.Name)
	attributes := []trace.SpanStartOption{trace.WithAttributes(attribute.Bool("sluice.command", r.Command))}
	return func(ctx context.Context, call *Call) error {
		began := time.Now()
		var span trace.Span
		if b.cfg.Tracer != nil {
			ctx, span = b.cfg.Tracer.Start(ctx, call.Name, attributes...)
			defer span.End()
		}
		err := next(ctx, call)
		if span != nil && err != nil {
			span.SetAttributes(attribute.String("error.type", fault.CodeOf(err)))
			if fault.Is(err, fault.Internal) {
				span.SetStatus(codes.Error, "")
			}
		}
		m.count(err, time.Since(began))
		return err
	}
}

// auditDone adds the entry of a command that is done to its unit of work.
func (b *Bus) auditDone(tx *repo.Tx, call *Call) error {
	e := call.entry(audit.OK, "")
	if changed := tx.Changes(); len(changed) > 0 {
		e.Kind, e.Resource = changed[0].Kind, changed[0].ID
	}
	if messages := tx.Messages(); b.cfg.AuditKey != nil && len(messages) > 0 {
		data := make([][]byte, len(messages))
		for i, m := range messages {
			data[i] = m.Data
		}
		e.Change = audit.Commit(b.cfg.AuditKey, data...)
	}
	return publish(tx, e)
}

// auditTime bounds how long the audit of a refusal may take.
const auditTime = 5 * time.Second

// Denied writes down that the context's principal was denied an action before a
// command or query was reached: by an edge, whose routes need permissions too.
// The action names the route, "http:POST:/v1/jobs" say.
//
// Each principal gets at most deniedEach entries a second, so that denials do not
// become a way to fill the log; what is beyond is counted, and the log says so
// once a second. Without a principal there is no entry: anybody could cause it.
func (b *Bus) Denied(ctx context.Context, action string, err error) {
	p, ok := access.From(ctx)
	if !ok {
		return
	}
	switch n := b.denials.count(p); {
	case n <= deniedEach:
		call := &Call{Name: identifier(action, 64), Principal: p, Origin: b.cfg.Origin(ctx)}
		b.auditRefused(ctx, call, err, true)
		return
	case n == deniedEach+1:
		b.cfg.Log.WarnContext(ctx, "a principal is denied too often for an audit entry each: more in this second are only counted",
			"principal", p, "action", action, "metric", "sluice_audit_denials_dropped_total")
	}
	b.metrics.dropped.Inc()
}

// auditRefused writes down a denial or a failure, also where the caller is gone.
// Where that fails the refusal stands, and the log says so.
func (b *Bus) auditRefused(ctx context.Context, call *Call, cause error, denied bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	outcome := audit.Failed
	if denied {
		outcome = audit.Denied
	}
	scope := call.scope(call.Principal.Tenant)
	scope.Operation = [16]byte{} // a refusal is no part of what is repeated
	err := b.store.Do(ctx, scope, func(_ context.Context, tx *repo.Tx) error {
		return publish(tx, call.entry(outcome, fault.CodeOf(cause)))
	})
	if err != nil {
		b.metrics.unaudited.Inc()
		b.cfg.Log.ErrorContext(ctx, "a refusal could not be audited", "command", call.Name, "outcome", string(outcome), "error", err)
	}
}

// entry is what the audit log says of a call.
func (c *Call) entry(outcome audit.Outcome, code string) audit.Entry {
	return audit.Entry{Tenant: c.Principal.Tenant, Actor: identifier(c.Principal.Subject, 64), Action: c.Name, Kind: c.target[0], Resource: c.target[1],
		Outcome: outcome, Code: code, Request: identifier(c.Origin.Request, 128), Correlation: identifier(c.Origin.Correlation, 128)}
}

func publish(tx *repo.Tx, e audit.Entry) error {
	e.ID, e.Time = repo.NewID[string](tx, "evt"), tx.Now()
	e.Resource = identifier(e.Resource, 128)
	data, err := e.Encode()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the audit entry of %s is not valid", e.Action)
	}
	return tx.Publish(repo.Message{ID: e.ID, Stream: repo.StreamAudit, Type: "audit.entry", Data: data})
}

const identifierBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-"

// identifier returns s where it can stand in the audit log, and otherwise a
// digest of it: an id that a client made up could hold anything.
func identifier(s string, most int) string {
	if len(s) <= most && strings.Trim(s, identifierBytes) == "" {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:16])
}
