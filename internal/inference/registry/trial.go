package registry

import (
	"cmp"
	"context"
	"errors"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Try tries a model in a sandboxed child process, with a golden run where there is
// one. An error that is Invalid is about the model.
type Try func(ctx context.Context, spec engine.Spec, golden *probe.Golden) (probe.Report, error)

// Trials tries what was registered, in the process that took it or, if that has died, in
// another.
type Trials struct {
	service *Service
	try     Try
	runtime string
	owner   string
	wake    chan struct{}
}

// Times of trials.
const (
	trialTime  = 5 * time.Minute // of one trial, files read included
	trialClaim = trialTime + 30*time.Second
	trialAgain = 30 * time.Second // until another attempt at a trial that came to nothing
	trialPoll  = 10 * time.Second
)

// NewTrials returns the trials of a process. The owner names the process, the
// runtime what it tries on. Call it before the store is used.
func (s *Service) NewTrials(try Try, runtime, owner string) *Trials {
	t := &Trials{service: s, try: try, runtime: runtime, owner: owner, wake: make(chan struct{}, 1)}
	s.store.Watch(func(c *repo.Changeset) {
		for i := range c.Puts {
			if c.Puts[i].Kind == Versions.Name {
				select {
				case t.wake <- struct{}{}:
				default:
				}
				return
			}
		}
	})
	return t
}

// Run tries what is registered until ctx ends.
func (t *Trials) Run(ctx context.Context) error {
	poll := time.NewTicker(trialPoll)
	defer poll.Stop()
	for ctx.Err() == nil {
		if err := t.Round(ctx); err != nil && ctx.Err() == nil {
			t.service.cfg.Log.WarnContext(ctx, "versions of models could not be tried; that is tried again", "error", err)
			pause.For(ctx, time.Second)
		}
		select {
		case <-t.wake:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// Round tries each version once that is registered now.
func (t *Trials) Round(ctx context.Context) error {
	var errs []error
	for v, err := range Versions.All(ctx, t.service.store.Read(repo.Scope{}), spec.Query[Version]{Where: stageField.Eq(Registered)}) {
		if err != nil {
			return err
		}
		if err := t.one(ctx, v.ID); err != nil && !errors.Is(err, errClaimed) && !errors.Is(err, repo.ErrNotFound) {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// one tries a version, unless another process does.
func (t *Trials) one(ctx context.Context, id ID) error {
	v, err := t.update(ctx, id, func(v *Version, now time.Time) error { return v.Take(t.owner, now, now.Add(trialClaim)) })
	if errors.Is(err, errUnfinished) {
		return t.judge(ctx, id, false, func(v *Version, now time.Time) error { return v.GiveUp(t.owner, now) })
	}
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, trialTime)
	report, golden, cause := t.run(bounded, &v)
	cancel()
	settle := context.WithoutCancel(ctx) // what was found is worth keeping
	switch {
	case cause == nil:
		return t.judge(settle, id, true, func(v *Version, now time.Time) error {
			return v.Pass(t.owner, Trial{report.Invariant, report.Reason, golden, t.runtime}, now)
		})
	case final(cause), doubtful(cause) && v.Claim.Attempts >= maxTrials:
		return t.judge(settle, id, false, func(v *Version, _ time.Time) error {
			return v.Fail(t.owner, Problem{fault.CodeOf(cause), fault.Clip(fault.Of(cause).Message, 2000)})
		})
	}
	_, err = t.update(settle, id, func(v *Version, now time.Time) error {
		again := now.Add(trialAgain)
		if ctx.Err() != nil { // this process ends; another may go on at once
			again = now
		}
		return v.Return(t.owner, again, doubtful(cause) && ctx.Err() == nil)
	})
	return cmp.Or(err, cause)
}

// judge settles the trial of a version.
func (t *Trials) judge(ctx context.Context, id ID, pass bool, change func(*Version, time.Time) error) error {
	v, err := cqrs.Send(asPlatform(ctx), t.service.bus, judge{id: id, pass: pass, change: change})
	switch {
	case err != nil:
		return err
	case v.Stage == Rejected:
		t.service.outcomes.WithLabelValues("rejected").Inc()
		t.service.cfg.Log.WarnContext(ctx, "a model version was rejected", "model", v.Model, "version", v.Number, "code", v.Problem.Code, "reason", v.Problem.Message)
	case v.Stage == Ready:
		t.service.outcomes.WithLabelValues("ready").Inc()
	}
	return nil
}

// final reports whether an error is about the model, and so will not go away.
func final(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Invalid, fault.Unsupported, fault.TooLarge, fault.Unprocessable:
		return !doubtful(err)
	}
	return fault.CodeOf(err) == blob.CodeChecksum
}

// doubtful reports whether an error may be about the model but may also go away: a trial
// that was killed or took too long, as on an overloaded machine; a file that the object
// store lacks; a model that a graph needs. After some more attempts it is believed.
func doubtful(err error) bool {
	switch fault.CodeOf(err) {
	case probe.CodeTimeout, probe.CodeKilled, codeLost, codeMember:
		return true
	}
	return fault.Is(err, fault.DeadlineExceeded)
}

// codeLost is the code of a file that the object store has lost.
const codeLost = "version_file_lost"

// update changes who tries a version.
func (t *Trials) update(ctx context.Context, id ID, change func(*Version, time.Time) error) (v Version, err error) {
	err = t.service.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		v, err = Versions.Update(ctx, tx, id, func(v *Version) error { return change(v, tx.Now()) })
		return err
	})
	return v, err
}

// run does the trial.
func (t *Trials) run(ctx context.Context, v *Version) (probe.Report, bool, error) {
	s := t.service
	memory := s.cfg.Memory.Account()
	defer memory.Release()
	fetch := s.reader(ctx, &memory)
	read := func(f File) ([]byte, error) {
		data, err := fetch(f)
		if fault.Is(err, fault.NotFound) {
			err = fault.Wrap(fault.NotFound, err, "file %q is not in the object store any more: bring its object back, and try the version again", f.Name).WithCode(codeLost)
		}
		return data, err
	}
	golden, err := v.golden(read)
	if err != nil {
		return probe.Report{}, false, err
	}
	config, err := ReadConfig(v.Model, v.Files, read)
	if err != nil {
		return probe.Report{}, false, err
	}
	data, err := read(v.Main())
	if err != nil {
		return probe.Report{}, false, err
	}
	if v.Graph() {
		report, err := t.tryGraph(ctx, v, data, config, golden)
		return report, golden != nil, err
	}
	found, err := onnx.Inspect(data, s.cfg.Limits) // again: it may have been registered with other limits
	if err != nil {
		return probe.Report{}, false, refused(err)
	}
	config, sig, err := model.Resolve(config, found.Signature, s.cfg.Defaults)
	if err != nil {
		return probe.Report{}, false, badConfig(err)
	}
	report, err := t.try(ctx, engine.Spec{Name: v.Model, Data: data, Signature: &sig, Batches: *config.MaxBatchSize > 0, MaxRows: *config.MaxBatchSize, Execution: config.Execution}, golden)
	if fault.Is(err, fault.Invalid) && fault.Of(err).Code == "" {
		err = fault.Wrap(fault.Invalid, err, "%s", fault.Of(err).Message).WithCode("trial_failed")
	}
	return report, golden != nil, err
}

// golden returns the version's golden run, nil where it has none.
func (v *Version) golden(read func(File) ([]byte, error)) (*probe.Golden, error) {
	in, ok := v.File(GoldenInputs)
	out, both := v.File(GoldenOutputs)
	if !ok || !both {
		return nil, nil //nolint:nilnil // nil is none
	}
	given, err := read(in)
	if err != nil {
		return nil, err
	}
	expected, err := read(out)
	if err != nil {
		return nil, err
	}
	return ParseGolden(given, expected)
}
