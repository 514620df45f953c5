package serve

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
)

// modelState is what the server knows of one model, served or not.
type modelState struct {
	// busy serialises loads and unloads of the model: whoever holds its one
	// token works on it.
	busy chan struct{}

	// The rest is guarded by Server.mu.
	entry    modelrepo.Entry
	live     map[int64]*loaded
	problems map[string]string // version, or "" for the model: why it does not serve
	loading  bool
	unloaded bool // taken out of service on request
	// configured says that the model should serve: it came from the repository
	// at the start or by polling, or was loaded on request. A request that
	// failed to load a new model does not make the server unready.
	configured bool
}

// loaded is a live version with what it was loaded from.
type loaded struct {
	version     *Version
	fingerprint string
	config      model.Config
}

// state returns the state of a model, made if it is new.
func (s *Server) state(name string) *modelState {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.models[name]
	if !ok {
		m = &modelState{busy: make(chan struct{}, 1), live: map[int64]*loaded{}, problems: map[string]string{}}
		s.models[name] = m
	}
	return m
}

// exclusive runs f while no other load or unload of the model is in progress.
func (m *modelState) exclusive(ctx context.Context, f func() error) error {
	select {
	case m.busy <- struct{}{}:
		defer func() { <-m.busy }()
		return f()
	case <-ctx.Done():
		return fault.Of(ctx.Err())
	}
}

// apply makes the server serve an entry of the repository: new versions are
// opened first, then the table is swapped, then old versions drain, so that
// no request fails. A version that cannot be opened leaves its predecessor of
// the same number in service. The error joins what could not be loaded.
func (s *Server) apply(ctx context.Context, e modelrepo.Entry) error {
	m := s.state(e.Name)
	return m.exclusive(ctx, func() error {
		s.update(func() { m.entry, m.loading, m.unloaded = e, true, false })
		s.warn(ctx, e.Name, slices.Concat(e.Config.Warnings, e.Warnings))
		next, problems := s.openAll(ctx, m, e)
		retired := s.swap(m, e, next, problems)
		s.retire(ctx, retired)
		return joinProblems(e.Name, problems)
	})
}

func (s *Server) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// openAll returns the chosen versions, each reused where nothing about it has
// changed, and why any could not be opened.
func (s *Server) openAll(ctx context.Context, m *modelState, e modelrepo.Entry) (map[int64]*loaded, map[string]string) {
	next, problems := map[int64]*loaded{}, map[string]string{}
	if e.Err != nil {
		problems[""] = fault.Of(e.Err).Message
		// A broken configuration says nothing about the versions in service.
		return m.live, problems
	}
	for _, number := range e.Chosen {
		at := slices.IndexFunc(e.Versions, func(v modelrepo.Version) bool { return v.Number == number })
		old := m.live[number]
		if old != nil && old.fingerprint == e.Versions[at].Fingerprint && reflect.DeepEqual(old.config, e.Config) {
			next[number] = old
			continue
		}
		began := time.Now()
		v, err := s.openEntry(ctx, e, number)
		if err != nil {
			problems[strconv.FormatInt(number, 10)] = describeProblem(err)
			s.cfg.Log.ErrorContext(ctx, "a model version cannot be loaded", "model", e.Name, "version", number, "error", err)
			if old != nil {
				next[number] = old
			}
			continue
		}
		s.warn(ctx, e.Name, v.Config.Warnings[len(e.Config.Warnings):]) // those that the model file brought
		next[number] = &loaded{version: v, fingerprint: e.Versions[at].Fingerprint, config: e.Config}
		s.cfg.Log.InfoContext(ctx, "model version loaded", "model", e.Name, "version", number, "sha256", v.SHA256,
			"took_ms", time.Since(began).Milliseconds(), "max_batch", v.MaxRows, "cross_request_batching", v.CrossRequest, "invariance", v.Invariance)
	}
	return next, problems
}

// warn tells the operator which settings have no effect.
func (s *Server) warn(ctx context.Context, name string, warnings []string) {
	for _, w := range warnings {
		s.cfg.Log.WarnContext(ctx, "a setting of the model has no effect", "model", name, "warning", w)
	}
}

// describeProblem is the reason that the repository index shows: the message,
// with the runtime's own words where it was the runtime that refused.
func describeProblem(err error) string {
	f := fault.Of(err)
	if f.Cause != nil && f.Kind != fault.Internal {
		return f.Message + ": " + f.Cause.Error()
	}
	return f.Message
}

func (s *Server) openEntry(ctx context.Context, e modelrepo.Entry, number int64) (*Version, error) {
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, err := s.repo.Read(ctx, e, number)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, source{name: e.Name, number: number, data: data, config: e.Config})
}

// swap puts the versions into the table in one step and returns those that
// were replaced.
func (s *Server) swap(m *modelState, e modelrepo.Entry, next map[int64]*loaded, problems map[string]string) []*Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	var retired []*Version
	for number, old := range m.live {
		if next[number] != old {
			retired = append(retired, old.version)
		}
	}
	m.live, m.problems, m.loading = next, problems, false
	if len(next) == 0 {
		s.table.Store(s.table.Load().Without(e.Name))
		return retired
	}
	routing := route.Model[*Version]{Labels: e.Config.Labels}
	for number, l := range next {
		routing.Versions = append(routing.Versions, route.Numbered[*Version]{Number: number, Text: l.version.Text, Value: l.version})
	}
	s.table.Store(s.table.Load().With(e.Name, routing))
	return retired
}

// retire waits until replaced versions have answered their last requests.
func (s *Server) retire(ctx context.Context, versions []*Version) {
	// The work must be finished even where whoever asked for it has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	for _, v := range versions {
		if err := v.retire(ctx); err != nil {
			s.cfg.Log.WarnContext(ctx, "a replaced model version still answers requests; it is freed when the last one ends",
				"model", v.Name, "version", v.Text, "waited", s.cfg.DrainTimeout.String())
		}
	}
}

func joinProblems(name string, problems map[string]string) error {
	var errs []error
	for version, reason := range problems {
		if version == "" {
			errs = append(errs, errors.New(reason))
		} else {
			errs = append(errs, fmt.Errorf("version %s: %s", version, reason))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "failed to load '%s': %s", name, errors.Join(errs...).Error())
}
