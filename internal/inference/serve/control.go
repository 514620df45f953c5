package serve

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/platform/fault"
)

// Start loads the configured models, two at a time. It fails only where the
// repository cannot be read, or lacks a model that was asked for by name: a
// model that cannot be loaded keeps the server from being ready, and the
// others serve.
func (s *Server) Start(ctx context.Context) error {
	entries, err := s.repo.Scan(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.cfg.Only {
		if !slices.ContainsFunc(entries, func(e modelrepo.Entry) bool { return e.Name == name }) && !s.offer(name) {
			return fault.New(fault.NotFound, "model %q is to be served, but the repository does not have it", name)
		}
	}
	var wg sync.WaitGroup
	var graphs, leaning []modelrepo.Entry // those that use other models, as nodes or as fallbacks
	for _, e := range entries {
		switch {
		case !s.configured(e.Name):
		case hasGraph(e):
			graphs = append(graphs, e)
		case e.Config.Fallback != (model.Fallback{}):
			leaning = append(leaning, e)
		default:
			wg.Go(func() { _ = s.apply(ctx, e, fromRepository) }) // the state keeps the error
		}
	}
	wg.Wait()
	for _, e := range slices.Concat(leaning, graphs) { // what they use is there now
		_ = s.apply(ctx, e, fromRepository)
	}
	s.bindGraphs(ctx)
	s.update(func() { s.began = true })
	return ctx.Err()
}

func (s *Server) configured(name string) bool {
	return len(s.cfg.Only) == 0 || slices.Contains(s.cfg.Only, name)
}

// Run follows the repository until ctx ends, where polling is on.
func (s *Server) Run(ctx context.Context) error {
	var binding sync.WaitGroup
	defer binding.Wait()
	binding.Go(func() { s.followGraphs(ctx) })
	if s.cfg.Poll <= 0 {
		<-ctx.Done()
		return nil
	}
	s.repo.Poll(ctx, s.cfg.Poll, func(entries []modelrepo.Entry, err error) {
		if err != nil {
			s.cfg.Log.ErrorContext(ctx, "the model repository cannot be read; models in service stay", "error", err)
			return
		}
		s.follow(ctx, entries)
	})
	return nil
}

// follow applies what changed in the repository.
func (s *Server) follow(ctx context.Context, entries []modelrepo.Entry) {
	present := map[string]bool{}
	for _, e := range entries {
		present[e.Name] = true
		if !s.configured(e.Name) {
			continue
		}
		m := s.state(e.Name)
		s.mu.Lock()
		changed := m.entry.Fingerprint != e.Fingerprint
		s.mu.Unlock()
		if changed {
			_ = s.apply(ctx, e, fromRepository) // the state keeps the error
		}
	}
	for _, e := range s.Index() {
		if !present[e.Name] {
			_ = s.remove(ctx, e.Name, true) // it fails with ctx alone
		}
	}
}

// Load implements Models.
func (s *Server) Load(ctx context.Context, name string, opts LoadOptions) error {
	if len(opts.Files) == 0 && opts.ConfigJSON == "" && s.offer(name) {
		return nil
	}
	e, err := s.repo.Overlay(ctx, name, modelrepo.Override{Config: opts.ConfigJSON, Files: opts.Files})
	if err != nil {
		return fault.Wrap(fault.Of(err).Kind, err, "failed to load '%s': %s", name, fault.Of(err).Message)
	}
	if len(opts.Files) > 0 {
		return s.apply(ctx, e, fromUpload)
	}
	return s.apply(ctx, e, fromRequest)
}

// offer serves the offered versions of a model again that was unloaded and that the
// repository does not have. It returns whether there are any.
func (s *Server) offer(name string) (there bool) {
	s.update(func() {
		m := s.models[name]
		if there = m != nil && len(m.offers) > 0 && m.entry.Name == ""; there {
			m.unloaded = false
			s.publish(name, m)
		}
	})
	return there
}

// Unload implements Models.
func (s *Server) Unload(ctx context.Context, name string) error {
	s.mu.Lock()
	_, known := s.models[name]
	s.mu.Unlock()
	if !known {
		return fault.New(fault.NotFound, "failed to unload '%s': the server does not have it", name)
	}
	return s.remove(ctx, name, false)
}

// remove takes a model out of service and drains it; forget also drops what
// the server knows of it, as it does of uploads.
func (s *Server) remove(ctx context.Context, name string, forget bool) error {
	return s.exclusive(ctx, name, func(m *modelState) error {
		var cooled []*Version
		s.update(func() {
			if forget && len(m.offers) > 0 {
				m.entry, m.configured, m.graphs = modelrepo.Entry{}, false, nil // the repository has lost it; it is offered
				return
			}
			m.unloaded = true
			m.graphs = nil
			for _, o := range m.offers {
				if o.live != nil {
					cooled = append(cooled, o.live)
					o.live = nil
				}
			}
		})
		retired := s.swap(m, modelrepo.Entry{Name: name}, map[int64]*loaded{}, map[string]string{})
		s.update(func() {
			if (forget || m.uploaded) && len(m.offers) == 0 {
				delete(s.models, name)
			}
		})
		s.retire(ctx, append(retired, cooled...))
		return nil
	})
}

// Close takes every model out of service and frees it once its last requests
// are answered, or the drain timeout has passed.
func (s *Server) Close(ctx context.Context) error {
	s.shadows.close()
	s.endLoads()
	for _, name := range s.Names() {
		if err := s.remove(ctx, name, false); err != nil {
			return err
		}
	}
	return nil
}

// Ready implements Models.
func (s *Server) Ready() bool { return s.Unready() == "" }

// Unready says what keeps the server from being ready, or "".
func (s *Server) Unready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.began {
		return "models are being loaded"
	}
	for _, name := range slices.Sorted(maps.Keys(s.models)) {
		if why := s.models[name].missing(); why != "" {
			return "model '" + name + "' " + why
		}
	}
	return ""
}

// missing says what the model should serve and does not, "" for nothing. A model that was
// in service as a whole still answers where it cannot be replaced: the index shows why, and
// the server stays ready.
func (m *modelState) missing() string {
	if !m.configured || m.unloaded {
		return ""
	}
	if len(m.live) > 0 && (m.complete || len(m.problems) == 0) {
		return ""
	}
	if len(m.problems) == 0 {
		return "is not loaded: it has no version"
	}
	version := slices.Min(slices.Collect(maps.Keys(m.problems)))
	if version == "" {
		return "is not loaded: " + m.problems[version]
	}
	return "version " + version + ": " + m.problems[version]
}

// Index implements Models.
func (s *Server) Index() []IndexEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var index []IndexEntry
	for name, m := range s.models {
		index = append(index, m.index(name)...)
	}
	slices.SortFunc(index, func(a, b IndexEntry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(len(a.Version), len(b.Version)), cmp.Compare(a.Version, b.Version))
	})
	return index
}

func (m *modelState) index(name string) []IndexEntry {
	var rows []IndexEntry
	seen := map[string]bool{}
	add := func(version string, state State, reason string) {
		if !seen[version] {
			seen[version] = true
			rows = append(rows, IndexEntry{Name: name, Version: version, State: state, Reason: reason})
		}
	}
	for number := range m.live {
		text := strconv.FormatInt(number, 10)
		add(text, Ready, m.problems[text])
	}
	if !m.unloaded {
		for number, o := range m.offers {
			add(strconv.FormatInt(number, 10), o.state(), o.problem())
		}
	} else {
		for number := range m.offers {
			add(strconv.FormatInt(number, 10), Unavailable, "unloaded")
		}
	}
	for version, reason := range m.problems {
		add(version, Unavailable, reason)
	}
	for _, number := range m.entry.Chosen {
		text := strconv.FormatInt(number, 10)
		switch {
		case m.loading:
			add(text, Loading, "")
		case m.unloaded:
			add(text, Unavailable, "unloaded")
		}
	}
	return rows
}
