package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	// busy serialises loads and unloads of the model: whoever has put its one
	// token in works on it.
	busy chan struct{}

	// The rest is guarded by Server.mu.
	entry    modelrepo.Entry
	live     map[int64]*loaded
	graphs   map[int64]source // of the chosen versions that are graphs, served or not
	offers   map[int64]*offered
	labels   map[string]int64  // of the configuration in effect
	problems map[string]string // version, or "" for the model: why it does not serve
	loading  bool
	unloaded bool // taken out of service on request
	// configured says that the model should serve: it came from the repository
	// at the start or by polling, or was loaded on request. A request that
	// failed to load a new model does not make the server unready.
	configured bool
	complete   bool // all of its versions were in service at some time
	uploaded   bool // its files came in a request: the repository has no such model
}

// loaded is a live version with what it was loaded from.
type loaded struct {
	version     *Version
	fingerprint string
	config      model.Config
}

// exclusive runs f on the state of a model, made if it is new, while no other
// load or unload of the model is in progress.
func (s *Server) exclusive(ctx context.Context, name string, f func(*modelState) error) error {
	for {
		m := s.state(name)
		select {
		case m.busy <- struct{}{}:
		case <-ctx.Done():
			return fault.Of(ctx.Err())
		}
		if s.state(name) == m {
			defer func() { <-m.busy }()
			return f(m)
		}
		<-m.busy // the state was forgotten meanwhile
	}
}

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

// apply makes the server serve an entry of the repository: new versions are
// opened first, then the table is swapped, then old versions drain, so that
// no request fails. Where anything about the entry fails, every version in
// service stays in service, next to what could be opened. The error joins what
// could not be loaded.
//
// It finishes what it has begun even where whoever asked for it has gone: a
// client that hangs up must not leave a model half loaded.
func (s *Server) apply(ctx context.Context, e modelrepo.Entry, origin origin) error {
	return s.exclusive(ctx, e.Name, func(m *modelState) error {
		ctx := context.WithoutCancel(ctx)
		s.update(func() {
			m.entry = e
			m.entry.Versions = nil // they may hold an upload's bytes
			m.graphs, m.loading = nil, true
		})
		s.warn(ctx, e.Name, slices.Concat(e.Config.Warnings, e.Warnings))
		next, problems := s.openAll(ctx, m, e)
		retired := s.swap(m, e, next, problems)
		s.update(func() {
			if s.settle(m, e.Name, origin); len(m.offers) > 0 {
				s.publish(e.Name, m)
			}
		})
		s.retire(ctx, retired)
		return joinProblems(e.Name, problems)
	})
}

// origin says where a model's entry came from.
type origin int

const (
	fromRepository origin = iota // the start, or polling: it should serve
	fromRequest                  // a load request for a model of the repository
	fromUpload                   // a load request that brought the files
)

// settle notes the outcome of applying an entry; s.mu is held.
func (s *Server) settle(m *modelState, name string, from origin) {
	m.complete = m.complete || len(m.problems) == 0
	m.uploaded = from == fromUpload
	if len(m.live) > 0 {
		m.configured, m.unloaded = true, false
	}
	if from == fromRepository {
		m.configured, m.unloaded = true, false
	}
	if len(m.live) == 0 && m.uploaded && len(m.offers) == 0 {
		delete(s.models, name) // a refused upload leaves nothing behind
	}
}

// update calls f with s.mu held.
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
		return m.live, problems
	}
	for _, number := range e.Chosen {
		at := slices.IndexFunc(e.Versions, func(v modelrepo.Version) bool { return v.Number == number })
		old := m.live[number]
		same := old != nil && old.fingerprint == e.Versions[at].Fingerprint && reflect.DeepEqual(old.config, e.Config)
		if same && !e.Versions[at].Graph { // a graph also depends on other models
			next[number] = old
			continue
		}
		began := time.Now()
		v, err := s.openEntry(ctx, m, e, number)
		if err != nil {
			problems[strconv.FormatInt(number, 10)] = describeProblem(err)
			s.cfg.Log.ErrorContext(ctx, "a model version cannot be loaded", "model", e.Name, "version", number, "error", err)
			continue
		}
		s.warn(ctx, e.Name, v.Config.Warnings[len(e.Config.Warnings):]) // those that the model file brought
		s.update(func() {
			if m.offers[number] != nil {
				s.cfg.Log.WarnContext(ctx, shadowed, "model", e.Name, "version", number)
			}
		})
		next[number] = &loaded{version: v, fingerprint: e.Versions[at].Fingerprint, config: e.Config}
		s.cfg.Log.InfoContext(ctx, "model version loaded", "model", e.Name, "version", number, "sha256", v.SHA256,
			"took_ms", time.Since(began).Milliseconds(), "max_batch", v.MaxRows, "cross_request_batching", v.CrossRequest, "invariance", v.Invariance)
	}
	if len(problems) > 0 {
		for number, old := range m.live {
			if next[number] == nil {
				next[number] = old
			}
		}
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

func (s *Server) openEntry(ctx context.Context, m *modelState, e modelrepo.Entry, number int64) (*Version, error) {
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
	src := source{name: e.Name, number: number, data: data, config: e.Config}
	if !graphOf(e, number) {
		return s.open(ctx, src)
	}
	s.update(func() {
		if m.graphs == nil {
			m.graphs = map[int64]source{}
		}
		m.graphs[number] = src
	})
	return s.openGraph(src)
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
	if e.Err != nil {
		return nil // the configuration is broken: nothing was replaced, and the labels stay
	}
	m.labels = e.Config.Labels
	s.publish(e.Name, m)
	return retired
}

// publish puts a model's versions into the table; s.mu is held. Of a number that is both
// offered and in the repository, the repository's version is served.
func (s *Server) publish(name string, m *modelState) {
	defer s.changed()
	routing := route.Model[*Version]{Labels: m.labels}
	add := func(v *Version) {
		routing.Versions = append(routing.Versions, route.Numbered[*Version]{Number: v.Number, Text: v.Text, Digest: v.SHA256, Value: v})
	}
	for _, l := range m.live {
		add(l.version)
	}
	for number, o := range m.offers {
		if m.live[number] != nil || m.unloaded {
			continue
		}
		if o.live != nil {
			add(o.live)
		} else if o.cold != nil {
			add(o.cold)
		}
	}
	if len(routing.Versions) == 0 {
		s.table.Store(s.table.Load().Without(name))
		return
	}
	s.table.Store(s.table.Load().With(name, routing))
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
		if _, err := s.table.Load().Pick(v.Name, v.Text, nil); err != nil {
			s.metrics.forget(v)
		}
	}
}

// retireAside is retire in the background.
func (s *Server) retireAside(ctx context.Context, versions []*Version) {
	s.mu.Lock()
	aside := !s.closing // nobody waits for what is begun after that
	if aside {
		s.loads.Go(func() { s.retire(ctx, versions) })
	}
	s.mu.Unlock()
	if !aside {
		s.retire(ctx, versions)
	}
}

func joinProblems(name string, problems map[string]string) error {
	var errs []error
	for _, version := range slices.Sorted(maps.Keys(problems)) {
		reason := problems[version]
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
