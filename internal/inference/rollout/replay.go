package rollout

import (
	"context"
	"errors"
	"strings"

	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/evidence"
	"sluice/internal/inference/release"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Evaluations are those that releases wait for. *evaluation.Service implements it.
type Evaluations interface {
	Start(ctx context.Context, in evaluation.Start) (*evaluation.Evaluation, error)
	Cancel(ctx context.Context, id evaluation.ID) (*evaluation.Evaluation, error)
}

// StartReplay has a release begin with an evaluation of its candidate, which belongs to the
// tenant of whoever begins the release.
type StartReplay struct {
	Evaluation evaluation.Start // without the model, the versions and the id
	Gate       evidence.Replay
}

// replay returns the step of a release that waits for an evaluation, which evaluate begins.
func (s *Service) replay(ctx context.Context, id release.ID, c *StartRelease) (release.Step, error) {
	if s.Evaluations == nil {
		return release.Step{}, fault.New(fault.Unavailable, "this process evaluates no versions")
	}
	p, _ := access.From(ctx)
	if p == nil {
		return release.Step{}, errNobody
	}
	return release.ReplayStep(release.Replaying{Tenant: p.Tenant, Evaluation: string(evaluationOf(id))}, c.Replay.Gate), nil
}

// evaluationOf is the id of the evaluation that a release waits for.
func evaluationOf(id release.ID) evaluation.ID {
	_, suffix, _ := strings.Cut(string(id), "_")
	return evaluation.ID(evaluation.Prefix + "_" + suffix)
}

// evaluate begins the evaluation that a release waits for, and then the release. Done again
// for the same release it finds the evaluation that is there. Where the release cannot be
// begun, its evaluation is cancelled.
func (s *Service) evaluate(ctx context.Context, id release.ID, c *StartRelease, baseline string, begin func() error) error {
	in := c.Replay.Evaluation
	in.ID, in.Name = evaluationOf(id), string(id)
	in.Model, in.Candidate, in.Baseline = c.Model, c.Candidate, baseline
	if _, err := s.Evaluations.Start(ctx, in); err != nil && !errors.Is(err, repo.ErrProcessed) && !errors.Is(err, repo.ErrExists) {
		return err
	}
	err := begin()
	if err == nil || errors.Is(err, repo.ErrProcessed) || errors.Is(err, repo.ErrOutcomeUnknown) || s.begun(context.WithoutCancel(ctx), string(id)) {
		return err
	}
	_, _ = s.Evaluations.Cancel(context.WithoutCancel(ctx), in.ID) // else it runs to its end, for nobody
	return err
}

// replayed returns the outcome of the evaluation that a release waits for. One that is gone,
// or compares other versions than the plan's, has failed.
func (c Counted) replayed(ctx context.Context, p *release.Plan, r *release.Replaying) (*evidence.Replayed, error) {
	out := &evidence.Replayed{Evaluation: r.Evaluation}
	e, err := evaluation.Evaluations.Get(ctx, c.Store.Read(repo.Scope{Tenant: r.Tenant}), evaluation.ID(r.Evaluation))
	if errors.Is(err, repo.ErrNotFound) {
		out.Ended, out.Failed = true, "it was deleted, or is forgotten"
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Ended = e.Final()
	switch asked := &e.Request; {
	case asked.Model != p.Model || asked.Candidate.Digest != p.Candidate || asked.Baseline == nil || asked.Baseline.Digest != p.Champion:
		out.Ended, out.Failed = true, "it compares other versions than the release's candidate and champion: begin another release"
		return out, nil
	case !out.Ended:
		return out, nil // its numbers change, and decide nothing
	case e.Failure != nil:
		out.Failed = e.Failure.Message
	case e.Status != evaluation.Completed:
		out.Failed = "it was " + string(e.Status)
	}
	done := &e.Done.Result
	out.Rows, out.Errors, out.Altered = done.Asked(), done.Errors-done.AlteredErrors, done.Altered
	if w, among := done.WorstSegment(); w != nil { // by what, not of which value: releases are seen by all tenants
		out.Segment, out.Of, out.Segments = w.By, w.Asked(), among
	}
	return out, nil
}
