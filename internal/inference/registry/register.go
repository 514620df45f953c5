package registry

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Register is what makes a version.
type Register struct {
	Model   string
	Number  int64 // wanted; 0 is the next that is free
	Sources []Source
	Hold    bool
	Notes   Notes
	Lineage Lineage
}

// Register makes a version of uploads. The same files again are the version that they were
// before: known is true, and nothing about it changes. A deleted version is restored, with
// the hold, the notes and the lineage of the registration as far as it has any. Nothing is
// kept of what is refused.
func (s *Service) Register(ctx context.Context, r Register) (v *Version, known bool, err error) {
	defer func() {
		switch {
		case err != nil:
			s.outcomes.WithLabelValues("refused").Inc()
		case known:
			s.outcomes.WithLabelValues("known").Inc()
		default:
			s.outcomes.WithLabelValues("registered").Inc()
		}
	}()
	files, err := s.check(&r)
	if err != nil {
		return nil, false, err
	}
	if err := s.checkParent(ctx, r.Model, r.Lineage.Parent); err != nil {
		return nil, false, err
	}
	digest := Digest(files)
	n, err := cqrs.Ask(ctx, s.bus, numbered{model: r.Model, digest: digest})
	if err != nil {
		return nil, false, err
	}
	if n != 0 && r.Number != 0 && r.Number != n {
		return nil, false, errExists(r.Model, n)
	}
	if n != 0 {
		if v, err = cqrs.Ask(ctx, s.bus, Find{Model: r.Model, Number: n}); !errors.Is(err, repo.ErrNotFound) {
			return v, true, err
		}
	}
	v, err = s.inspect(ctx, &r, files)
	if err != nil {
		return nil, false, err
	}
	v.Digest = digest
	return s.keep(ctx, v, r.Number)
}

// check returns the files of a registration, which still lie where they were uploaded.
func (s *Service) check(r *Register) ([]File, error) {
	if err := checkModel(r.Model); err != nil {
		return nil, err
	}
	names := make([]string, len(r.Sources))
	files := make([]File, len(r.Sources))
	for i, src := range r.Sources {
		names[i], files[i] = src.Name, File(src)
	}
	if err := checkNames(names); err != nil {
		return nil, err
	}
	for _, f := range files {
		if most := limit(f.Name, s.cfg.Limits.MaxBytes); f.Bytes > most {
			return nil, fault.New(fault.TooLarge, "file %q has %d bytes, at most %d are allowed", f.Name, f.Bytes, most).WithCode("version_file_too_large")
		}
	}
	return files, cmp.Or(checkNotes(&r.Notes), checkLineage(&r.Lineage))
}

// checkModel refuses what cannot name a model here. In paths of the API a colon comes before
// a version, an at sign before an alias, and a percent sign begins an escape: names with
// them would be ambiguous.
func checkModel(name string) error {
	err := model.ValidName(name)
	if err == nil && strings.ContainsAny(name, "/:@%") {
		err = fault.New(fault.Invalid, "model name %q must not contain any of / : @ %%, which have a meaning in paths: use letters, digits, - . or _", fault.Clip(name, 80))
	}
	if err != nil {
		return fault.Wrap(fault.Unprocessable, err, "%s", fault.Of(err).Message).WithCode("model_name_invalid")
	}
	return nil
}

// inspect reads the uploads and returns the version that they make.
func (s *Service) inspect(ctx context.Context, r *Register, files []File) (*Version, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, fault.Of(ctx.Err())
	}
	memory := s.cfg.Memory.Account()
	defer memory.Release()
	read := s.reader(ctx, &memory)
	v := &Version{Model: r.Model, Files: files, Hold: r.Hold, Notes: r.Notes, Lineage: r.Lineage}
	config, err := ReadConfig(r.Model, files, read)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Verify.Files(r.Model, s.store.Now(), files, read); err != nil {
		return nil, err
	}
	if _, err := v.golden(read); err != nil {
		return nil, err
	}
	data, err := read(v.Main())
	if err != nil {
		return nil, err
	}
	if v.Graph() {
		return v, s.inspectGraph(v, data, config)
	}
	found, err := onnx.Inspect(data, s.cfg.Limits)
	if err != nil {
		return nil, refused(err)
	}
	resolved, _, err := model.Resolve(config, found.Signature, s.cfg.Defaults)
	if err != nil {
		return nil, badConfig(err)
	}
	v.be(found.SHA256, found.Signature, resolved.Warnings)
	return v, nil
}

// be notes what was found in the version's main file.
func (v *Version) be(sha256 string, sig model.Signature, warnings []string) {
	v.SHA256, v.Inputs, v.Outputs, v.Warnings = sha256, ports(sig.Inputs), ports(sig.Outputs), warnings
}

// reader returns a function that reads files of versions, within the account's memory.
func (s *Service) reader(ctx context.Context, memory *budget.Account) func(File) ([]byte, error) {
	return func(f File) ([]byte, error) {
		if err := memory.Acquire(f.Bytes); err != nil {
			return nil, err
		}
		return ReadFile(ctx, s.bucket, f)
	}
}

// refused returns the error for a model file that the gate refuses.
func refused(err error) error {
	f := fault.Of(err)
	if f.Kind == fault.TooLarge {
		return err
	}
	return fault.Wrap(fault.Unprocessable, err, "the model file is refused: %s", f.Message).WithCode("model_refused")
}

// keep copies the files to objects of the version's own, and commits it.
func (s *Service) keep(ctx context.Context, v *Version, wanted int64) (*Version, bool, error) {
	var err error
	if v.Number, err = s.number(ctx, v, wanted); err != nil {
		return nil, false, err
	}
	if old, err := s.again(ctx, v); err != nil || old != nil {
		return old, false, err
	}
	kept := make([]File, 0, len(v.Files))
	for _, f := range v.Files {
		to := objectName(IDOf(v.Model, v.Number), repo.RandomName())
		if _, err := s.bucket.Copy(ctx, f.Object, to, f.SHA256); err != nil {
			s.drop(ctx, kept)
			return nil, false, err
		}
		f.Object = to
		kept = append(kept, f)
	}
	v.Files = kept
	made, err := s.commit(ctx, v)
	if err == nil {
		return made, false, nil
	}
	if errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrProcessed) {
		if made, found := cqrs.Ask(ctx, s.bus, Find{Model: v.Model, Number: v.Number}); found == nil {
			if made.Files[0].Object != kept[0].Object { // another request came first
				s.drop(ctx, kept)
			}
			return made, errors.Is(err, repo.ErrExists), nil
		}
	}
	if !fault.Of(err).Kind.Retryable() && fault.Of(err).Kind != fault.Internal { // else it may have been kept
		s.drop(ctx, kept)
	}
	return nil, false, err
}

// commit commits a version whose files are kept. The models of a graph are kept meanwhile.
func (s *Service) commit(ctx context.Context, v *Version) (*Version, error) {
	ctx, end, err := s.keepMembers(ctx, v)
	if err != nil {
		return nil, refusedGraph(err)
	}
	defer end()
	return cqrs.Send(ctx, s.bus, add{version: *v})
}

// number returns the number that the version has, or is given.
func (s *Service) number(ctx context.Context, v *Version, wanted int64) (int64, error) {
	taken, err := s.cfg.Taken(ctx, v.Model)
	if err != nil {
		return 0, err
	}
	for attempt := 1; ; attempt++ {
		n, err := cqrs.Ask(ctx, s.bus, numbered{model: v.Model, digest: v.Digest})
		if err != nil || n != 0 {
			return n, err
		}
		n, err = cqrs.Send(ctx, s.bus, number{model: v.Model, digest: v.Digest, wanted: wanted, taken: taken})
		// The model's first versions may come at once; and what gave the number may
		// have done so before, and its answer was lost.
		again := errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrProcessed)
		if !again || attempt == 3 {
			return n, err
		}
	}
}

// again restores a version that was deleted and whose objects still exist, with what the new
// registration says of it; nil where there is none.
func (s *Service) again(ctx context.Context, v *Version) (*Version, error) {
	old, err := cqrs.Ask(ctx, s.bus, gone{model: v.Model, number: v.Number})
	if errors.Is(err, repo.ErrNotFound) || err == nil && !old.Deleted() {
		return nil, nil //nolint:nilnil // nil is none
	}
	if err != nil {
		return nil, err
	}
	back, err := s.Restore(ctx, Restore{Model: v.Model, Number: v.Number, by: v})
	if fault.CodeOf(err) == codeGone {
		return nil, s.purge(ctx, old)
	}
	return back, err
}

// drop deletes objects that no version will name. Where that fails the sweep deletes them.
func (s *Service) drop(ctx context.Context, files []File) {
	ctx = context.WithoutCancel(ctx)
	for _, f := range files {
		if err := s.bucket.Delete(ctx, f.Object); err != nil {
			s.cfg.Log.WarnContext(ctx, "a file of a model version could not be removed; the sweep will do it", "object", f.Object, "error", err)
		}
	}
}
