package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// AliasID is the id of an alias, als_…, which follows from the model's and its own
// name.
type AliasID string

// AliasIDOf returns the id of a model's alias.
func AliasIDOf(model, alias string) AliasID {
	sum := sha256.Sum256([]byte(model + "\x00" + alias))
	return AliasID("als_" + hex.EncodeToString(sum[:16]))
}

// MaxReason is how many bytes the reason for stopping something has at most.
const MaxReason = 255

var aliasForm = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,62}$`)

// checkName refuses what cannot name an alias, above all a version's number.
func checkName(alias string) error {
	if !aliasForm.MatchString(alias) {
		return fault.New(fault.Unprocessable, "%q names no alias: expected a letter, and up to 62 letters, digits, - or _ behind it", fault.Clip(alias, 64)).WithCode("alias_name_invalid")
	}
	return nil
}

// Pointing is what an alias points to, and how it is guarded.
type Pointing struct {
	Version int64  `json:"version"`
	Digest  string `json:"digest"` // of the version when the alias was pointed to it
	// Protected says that changes need somebody else's approval.
	Protected bool `json:"protected,omitempty"`
}

// Proposal is a change of a protected alias that waits for an approval.
type Proposal struct {
	Pointing
	Remove bool      `json:"remove,omitempty"` // the alias goes, instead of pointing elsewhere
	By     string    `json:"by"`               // the principal that asks for it
	Person string    `json:"person,omitempty"` // who is behind it, see access.Principal
	At     time.Time `json:"at"`
}

// Alias is a name of a version, as its events have made it.
type Alias struct {
	Model string `json:"model"`
	Name  string `json:"name"`
	Pointing
	Exists   bool      `json:"exists"`
	Proposed *Proposal `json:"proposed,omitempty"`
	// Holder is the experiment or release that divides the alias's requests; empty
	// for none. Nothing else changes the alias meanwhile.
	Holder string    `json:"holder,omitempty"`
	HeldAt time.Time `json:"held_at,omitzero"`
	// Next is what it points to once a release that holds it has promoted.
	Next *Pointing `json:"next,omitempty"`
}

// AliasSet says what an alias points to from here on.
type AliasSet struct {
	Model string `json:"model"`
	Alias string `json:"alias"`
	Pointing
	// ProposedBy is who asked for it, where somebody else approved.
	ProposedBy string `json:"proposed_by,omitempty"`
	// Release is the one that promoted the version, which ends its hold.
	Release string `json:"release,omitempty"`
}

// AliasRemoved says that there is no such alias any more.
type AliasRemoved struct {
	ProposedBy string `json:"proposed_by,omitempty"`
}

// AliasProposed says what somebody wants to be approved.
type AliasProposed struct {
	Pointing
	Remove bool   `json:"remove,omitempty"`
	By     string `json:"by"`
	Person string `json:"person,omitempty"` // see Proposal
}

// AliasRejected says that a proposal was rejected or withdrawn.
type AliasRejected struct{}

// AliasHeld says that an experiment or release divides the alias's requests.
type AliasHeld struct {
	Holder string    `json:"holder"`
	Next   *Pointing `json:"next,omitempty"` // see Alias
}

// AliasFreed says that the holder has let go of the alias.
type AliasFreed struct {
	Holder string `json:"holder"`
}

// EventType implements aggregate.Event.
func (AliasSet) EventType() string { return "alias.set" }

// EventType implements aggregate.Event.
func (AliasRemoved) EventType() string { return "alias.removed" }

// EventType implements aggregate.Event.
func (AliasProposed) EventType() string { return "alias.proposed" }

// EventType implements aggregate.Event.
func (AliasRejected) EventType() string { return "alias.rejected" }

// EventType implements aggregate.Event.
func (AliasHeld) EventType() string { return "alias.held" }

// EventType implements aggregate.Event.
func (AliasFreed) EventType() string { return "alias.freed" }

// Aliases keeps them.
var Aliases = eventstore.Source[AliasID, Alias]{
	Name: "aliases", Codec: aliasCodec(), Apply: applyAlias, Form: 1,
	Columns: []spec.Column[Alias]{ofModel, ofHeld},
}

var (
	ofModel = spec.TextField("model", func(a *Alias) string { return a.Model })
	ofHeld  = spec.BoolField("held", func(a *Alias) bool { return a.Holder != "" })
)

func aliasCodec() *eventstore.Codec {
	c := eventstore.NewCodec()
	eventstore.Register[AliasSet](c)
	eventstore.Register[AliasRemoved](c)
	eventstore.Register[AliasProposed](c)
	eventstore.Register[AliasRejected](c)
	eventstore.Register[AliasHeld](c)
	eventstore.Register[AliasFreed](c)
	return c
}

// applyAlias changes the state by what has happened.
func applyAlias(a *Alias, e aggregate.Event, at time.Time) {
	switch e := e.(type) {
	case AliasSet:
		a.Model, a.Name, a.Pointing, a.Exists, a.Proposed = e.Model, e.Alias, e.Pointing, true, nil
		if e.Release != "" {
			a.Holder, a.HeldAt, a.Next = "", time.Time{}, nil
		}
	case AliasRemoved:
		a.Pointing, a.Exists, a.Proposed = Pointing{}, false, nil
	case AliasProposed:
		a.Proposed = &Proposal{e.Pointing, e.Remove, e.By, e.Person, at}
	case AliasRejected:
		a.Proposed = nil
	case AliasHeld:
		a.Holder, a.HeldAt, a.Next = e.Holder, at, e.Next
	case AliasFreed:
		a.Holder, a.HeldAt, a.Next = "", time.Time{}, nil
	}
}

// free refuses changes of an alias whose requests are divided.
func (a *Alias) free() error {
	if a.Holder != "" {
		return fault.New(fault.Conflict, "%s divides the requests for this alias: stop it, or roll it back, first", a.Holder).WithCode("alias_held")
	}
	return nil
}

// point has the alias point to something, or proposes that where the alias is
// protected. Without authentication an alias cannot be protected, only unprotected:
// there would be nobody else to approve.
func (a *Alias) point(model, name string, to Pointing, by asker) ([]aggregate.Event, error) {
	if err := a.free(); err != nil {
		return nil, err
	}
	switch {
	case a.Exists && a.Pointing == to && a.Proposed == nil:
		return nil, nil
	case to.Protected && by.nobody:
		return nil, errNobody
	case a.Exists && a.Protected && !by.nobody:
		return []aggregate.Event{AliasProposed{Pointing: to, By: by.subject, Person: by.person}}, nil
	}
	return []aggregate.Event{AliasSet{Model: model, Alias: name, Pointing: to}}, nil
}

// remove removes the alias, or proposes that where it is protected.
func (a *Alias) remove(by asker) ([]aggregate.Event, error) {
	if err := a.free(); err != nil {
		return nil, err
	}
	switch {
	case a.Protected && by.nobody:
		return nil, errNobody
	case a.Protected:
		return []aggregate.Event{AliasProposed{Remove: true, By: by.subject, Person: by.person}}, nil
	}
	return []aggregate.Event{AliasRemoved{}}, nil
}

// decide approves what was proposed, or rejects it. Whoever proposed it cannot approve
// it, but may withdraw it.
func (a *Alias) decide(approve bool, by asker) ([]aggregate.Event, error) {
	p := a.Proposed
	if p == nil {
		return nil, fault.New(fault.Conflict, "nothing is proposed for this alias").WithCode("alias_not_proposed")
	}
	if !approve {
		return []aggregate.Event{AliasRejected{}}, nil
	}
	if by.nobody {
		return nil, errNobody
	}
	if by.is(p.By, p.Person) {
		return nil, fault.New(fault.PermissionDenied, "who has asked for a change cannot approve it: ask somebody else").WithCode("approval_by_requester")
	}
	if err := a.free(); err != nil {
		return nil, err
	}
	if p.Remove {
		return []aggregate.Event{AliasRemoved{ProposedBy: p.By}}, nil
	}
	return []aggregate.Event{AliasSet{Model: a.Model, Alias: a.Name, Pointing: p.Pointing, ProposedBy: p.By}}, nil
}

// hold lets an experiment or release divide the alias's requests. Experiments, which
// have no next, need no approval, and are therefore refused on protected aliases.
func (a *Alias) hold(holder string, next *Pointing) ([]aggregate.Event, error) {
	if a.Holder == holder {
		return nil, nil
	}
	if err := a.free(); err != nil {
		return nil, err
	}
	if next == nil && a.Protected {
		return nil, errProtected
	}
	if a.Proposed != nil {
		return nil, fault.New(fault.Conflict, "a change of this alias waits for an approval: have it decided first").WithCode("alias_proposed")
	}
	return []aggregate.Event{AliasHeld{holder, next}}, nil
}

var errProtected = fault.New(fault.Conflict, "the alias is protected, and an experiment divides its requests without an approval: begin a release, or take the protection away first").WithCode("alias_protected")

// settle ends a hold. Where a release was promoted, the alias then points to its version.
func (a *Alias) settle(holder string, promoted bool) ([]aggregate.Event, error) {
	switch {
	case a.Holder != holder:
		return nil, nil
	case promoted && a.Next != nil:
		return []aggregate.Event{AliasSet{Model: a.Model, Alias: a.Name, Pointing: *a.Next, Release: holder}}, nil
	}
	return []aggregate.Event{AliasFreed{holder}}, nil
}
