package rollout

import (
	"context"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// asker is who asks for a change, or approves one.
type asker struct {
	subject string
	person  string // behind it, see access.Principal
	nobody  bool   // authentication is off: everybody is the same
}

// askerOf returns who acts.
func askerOf(ctx context.Context) asker {
	p, ok := access.From(ctx)
	if !ok {
		return asker{nobody: true}
	}
	return asker{p.Subject, p.Behind(), p.Kind == access.KindAnonymous}
}

// is reports whether the asker is a principal, or the person who was behind it. The
// latter is empty in old events.
func (a asker) is(subject, person string) bool {
	return a.subject == subject || a.person == subject || a.person == person
}

// errNobody refuses what needs another person's approval where authentication is off.
var errNobody = fault.New(fault.Unprocessable, "this needs an approval by somebody else, and without authentication nobody can be told apart: send protected: false, and steps without approval, or turn authentication on").WithCode("approval_needs_identity")
