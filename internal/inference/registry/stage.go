package registry

import (
	"cmp"
	"time"

	"sluice/internal/platform/fault"
)

// Changed says that a version is in another stage.
type Changed struct {
	Model  string `json:"model"`
	Number int64  `json:"number"`
	Stage  Stage  `json:"stage"`
	Digest string `json:"digest"`
}

// EventType implements aggregate.Event: model_version.ready, ….
func (c Changed) EventType() string { return "model_version." + string(c.Stage) }

// Noted says that the notes of a version were changed.
type Noted struct {
	Model  string `json:"model"`
	Number int64  `json:"number"`
}

// EventType implements aggregate.Event.
func (Noted) EventType() string { return "model_version.noted" }

// Removed says that a version was deleted.
type Removed Changed

// Restored says that a deleted version is there again.
type Restored Changed

// EventType implements aggregate.Event.
func (Removed) EventType() string { return "model_version.deleted" }

// EventType implements aggregate.Event.
func (Restored) EventType() string { return "model_version.restored" }

func (v *Version) changed() Changed { return Changed{v.Model, v.Number, v.Stage, v.Digest} }

func (v *Version) move(s Stage) {
	v.Stage = s
	v.Record(v.changed())
}

// begin makes a new version registered, to be tried.
func (v *Version) begin() {
	v.Problem, v.Trial, v.Claim, v.Purge = nil, nil, Claim{}, never
	v.move(Registered)
}

// again gives a version that a registration of its files restores the notes, the lineage
// and the hold of that registration, as far as it has any.
func (v *Version) again(by *Version) {
	v.Card = cmp.Or(by.Card, v.Card)
	if by.Metrics != nil {
		v.Metrics = by.Metrics
	}
	if by.Labels != nil {
		v.Labels = by.Labels
	}
	if !by.Lineage.empty() {
		v.Lineage = by.Lineage
	}
	if !by.Hold {
		return
	}
	v.Hold = true
	if v.Stage == Ready {
		v.ReadyAt = time.Time{}
		v.move(Validated)
	}
}

// maxTrials is how many trials of a version may end without an outcome: it may kill the
// processes that try it, hang, or have lost a file.
const maxTrials = 3

// errClaimed refuses a claim on what another process tries, or what needs no trial any more.
var errClaimed = fault.New(fault.Conflict, "the version is being tried by another process, or was")

// errUnfinished refuses a claim on what was tried too often without an outcome.
var errUnfinished = fault.New(fault.Conflict, "the trials of the version never ended")

// Take claims the trial of the version until a time; whose claim it is may take it
// again, after a restart. It fails with errUnfinished where too many trials ended
// without an outcome: then see GiveUp.
func (v *Version) Take(by string, now, until time.Time) error {
	if err := v.claimable(by, now); err != nil {
		return err
	}
	if v.Claim.Attempts >= maxTrials {
		return errUnfinished
	}
	v.Claim = Claim{by, until, v.Claim.Attempts + 1}
	return nil
}

// GiveUp rejects a version that Take has failed for with errUnfinished.
func (v *Version) GiveUp(by string, now time.Time) error {
	if err := v.claimable(by, now); err != nil {
		return err
	}
	v.reject(Problem{"trial_unfinished", "its trial was begun again and again, and never ended: it may be what ends the processes that try it"})
	return nil
}

func (v *Version) claimable(by string, now time.Time) error {
	if v.Stage != Registered || v.Claim.By != "" && v.Claim.By != by && now.Before(v.Claim.Until) {
		return errClaimed
	}
	return nil
}

// Return gives a claim back where the trial came to nothing; the version is tried again
// from a time on. counts says whether the trial is one of maxTrials: others failed through
// no fault of the version's.
func (v *Version) Return(by string, again time.Time, counts bool) error {
	if v.Stage != Registered || v.Claim.By != by {
		return errClaimed
	}
	v.Claim.By, v.Claim.Until = "later", again
	if !counts {
		v.Claim.Attempts--
	}
	return nil
}

// Pass says that the trial went well.
func (v *Version) Pass(by string, t Trial, now time.Time) error {
	if v.Stage != Registered || v.Claim.By != by {
		return errClaimed
	}
	v.Trial, v.Claim = &t, Claim{}
	v.move(Validated)
	if !v.Hold {
		v.ready(now)
	}
	return nil
}

// Fail says that the trial did not.
func (v *Version) Fail(by string, p Problem) error {
	if v.Stage != Registered || v.Claim.By != by {
		return errClaimed
	}
	v.reject(p)
	return nil
}

func (v *Version) reject(p Problem) {
	v.Problem, v.Claim = &p, Claim{}
	v.move(Rejected)
}

func (v *Version) ready(now time.Time) {
	v.ReadyAt, v.Hold = now, false
	v.move(Ready)
}

// To moves the version where clients may: from validated or archived to ready,
// from ready or validated to archived, and from rejected to registered, to be
// tried again. To the stage that it is in is no move.
func (v *Version) To(s Stage, now time.Time) error {
	from := v.Stage
	switch {
	case s == from:
	case s == Ready && (from == Validated || from == Archived):
		v.ready(now)
	case s == Archived && (from == Ready || from == Validated):
		v.move(Archived)
	case s == Registered && from == Rejected:
		v.begin()
	default:
		return fault.New(fault.Conflict, "version %d of model %q is %s, and cannot become %s: validated and archived ones become ready, ready and validated ones archived, rejected ones registered", v.Number, v.Model, from, s).
			WithCode("version_stage")
	}
	return nil
}
