package cqrs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
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
	return func(ctx context.Context, call *Call) error {
		err := access.Check(ctx, call.Permission)
		denied := err != nil
		if err == nil {
			err = call.invalid
		}
		if err == nil {
			err = next(ctx, call)
		}
		if err != nil && (denied || call.Command) && call.Principal != nil {
			b.auditRefused(ctx, call, err, denied)
		}
		return err
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
	if b.cfg.AuditKey != nil && len(tx.Messages()) > 0 {
		mac := hmac.New(sha256.New, b.cfg.AuditKey)
		for _, m := range tx.Messages() {
			mac.Write(m.Data)
		}
		var sum [sha256.Size]byte
		e.Change = "hmac-sha256:" + hex.EncodeToString(mac.Sum(sum[:0]))
	}
	return publish(tx, e)
}

// auditTime bounds how long the audit of a refusal may take.
const auditTime = 5 * time.Second

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
