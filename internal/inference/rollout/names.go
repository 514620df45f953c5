package rollout

import (
	"context"
	"errors"
	"iter"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// split is how a holder divides requests, and the version of the holder that says so.
type split struct {
	version int64
	*route.Split
}

// read reads the names of all models from the store.
func (f *Follower) read(ctx context.Context) (map[string]route.Names, error) {
	names, splits := map[string]route.Names{}, map[string]*split{}
	for a, err := range all(ctx, f.store.Read(repo.Scope{}), Aliases, spec.Spec[Alias]{}) {
		if err != nil {
			return nil, err
		}
		if a.State.Exists {
			s, err := f.split(ctx, &a.State, splits)
			if err != nil {
				return nil, err
			}
			add(names, &a.State, s)
		}
	}
	f.splits = splits
	f.tallies.retain(splits)
	return names, nil
}

// all yields what a rule selects, reading page by page.
func all[ID ~string, S any](ctx context.Context, from repo.Reading, source eventstore.Source[ID, S], where spec.Spec[S]) iter.Seq2[eventstore.Loaded[ID, S], error] {
	return func(yield func(eventstore.Loaded[ID, S], error) bool) {
		for query := (spec.Query[S]{Where: where, Limit: spec.MaxLimit}); ; {
			page, err := source.Find(ctx, from, query)
			if err != nil {
				yield(eventstore.Loaded[ID, S]{}, err)
				return
			}
			for _, x := range page.Items {
				if !yield(x, nil) {
					return
				}
			}
			if query.After = page.Next; query.After == "" {
				return
			}
		}
	}
}

// add adds an alias to the names of its model.
func add(names map[string]route.Names, a *Alias, s *route.Split) {
	of := names[a.Model]
	if of == nil {
		of = route.Names{}
		names[a.Model] = of
	}
	of[a.Name] = route.Name{Version: a.Version, Split: s}
	if a.Name == route.Default {
		of[""] = of[a.Name]
	}
}

// split returns how the holder of an alias divides its requests, nil where it does
// not, or does not exist. What has not changed is kept from the last reading, and so is
// what cannot be understood: one bad split must not keep everything else from being routed.
func (f *Follower) split(ctx context.Context, a *Alias, splits map[string]*split) (*route.Split, error) {
	if a.Holder == "" {
		return nil, nil //nolint:nilnil // nil does not divide
	}
	version, made, err := f.holder(ctx, a.Holder)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil //nolint:nilnil // it is about to be made, or came to nothing
	}
	if err != nil {
		return nil, err
	}
	s := f.splits[a.Holder]
	if s == nil || s.version != version {
		next, err := made()
		if err == nil {
			s = &split{version, next}
		} else {
			f.skipped.Inc()
			f.cfg.Log.ErrorContext(ctx, "what divides the requests for an alias cannot be understood; as it was before holds", "model", a.Model, "alias", a.Name, "holder", a.Holder, "error", err)
		}
	}
	if s == nil {
		return nil, nil //nolint:nilnil // nothing was before
	}
	splits[a.Holder] = s
	return s.Split, nil
}

// holder reads what holds an alias: its version, and what makes its split.
func (f *Follower) holder(ctx context.Context, id string) (int64, func() (*route.Split, error), error) {
	if isExperiment(id) {
		x, err := Experiments.Get(ctx, f.store.Read(repo.Scope{}), ExperimentID(id))
		return x.Version, func() (*route.Split, error) { return f.ofExperiment(&x) }, err
	}
	r, err := release.Releases.Get(ctx, f.store.Read(repo.Scope{}), release.ID(id))
	return r.Version, func() (*route.Split, error) { return f.ofRelease(id, &r.State) }, err
}

// ofExperiment returns how an experiment divides requests.
func (f *Follower) ofExperiment(l *LoadedExperiment) (*route.Split, error) {
	x, id := &l.State, string(l.Root.ID)
	if x.Stopped {
		return nil, nil //nolint:nilnil // nil does not divide
	}
	plan, err := experiment.Compile(x.Config)
	s := &route.Split{ID: id, Plan: plan}
	for _, arm := range x.Arms {
		s.Arms = append(s.Arms, route.Arm{Name: arm.Name, Digest: arm.Digest})
	}
	if err == nil {
		t := f.tallies.of(part{id, l.Root.Version}, x.Config.Allocation.Arms())
		if t.meter(s.Arms); x.Shadow != nil {
			s.Shadow, err = t.judging(x.Shadow.Name, x.Shadow.Digest, x.Shadow.Policy)
		}
	}
	return s, err
}

// ofRelease returns how a release divides requests. One that has promoted serves
// all by the candidate, until its alias points to it.
func (f *Follower) ofRelease(id string, r *release.State) (*route.Split, error) {
	if r.Status == release.RolledBack {
		return nil, nil //nolint:nilnil // nil does not divide
	}
	plan, err := experiment.Compile(experiment.Config{Salt: id, Allocation: r.Allocation, Unit: standardUnit})
	if err != nil {
		return nil, err
	}
	s := &route.Split{ID: id, Plan: plan, Arms: []route.Arm{{Name: release.Champion, Digest: r.Plan.Champion}, {Name: release.Candidate, Digest: r.Plan.Candidate}}}
	if !r.Status.Final() {
		t := f.tallies.of(part{id, int64(r.Step)}, r.Allocation.Arms())
		t.meter(s.Arms)
		if p := r.Shadowing(); p != nil {
			s.Shadow, err = t.judging(release.Candidate, r.Plan.Candidate, *p)
		}
	}
	return s, err
}
