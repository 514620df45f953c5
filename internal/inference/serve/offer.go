package serve

import (
	"context"
	"math"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Offer is a version that is loaded when the first request wants it, and unloaded
// when others need its memory.
type Offer struct {
	Number    int64
	SHA256    string          // of the model file, hex
	Bytes     int64           // of the model file
	Config    model.Config    // as written, before model.Resolve
	Signature model.Signature // of the model file, as the gate has read it
	// Read returns the model file. It fails where it has another SHA-256.
	Read func(ctx context.Context) ([]byte, error)
	// Graph is the file of a graph. Nothing of it is loaded on demand, so Read is nil. It
	// serves while its models make it take and give what Signature says.
	Graph []byte
}

// offered is an Offer with what the server makes of it. Server.mu guards it.
type offered struct {
	Offer
	cold    *Version      // stands in the table while it is not loaded; nil for a graph
	live    *Version      // nil while it is not loaded
	loading *loading      // nil while nobody loads it
	size    int64         // bytes of memory, as measured when it was last loaded; 0 before that
	shared  atomic.Bool   // whether requests shared runs when it was last loaded
	began   time.Time     // when it was last loaded
	failed  error         // why it could not be loaded, or why a graph cannot work
	retry   time.Time     // when loading may be tried again
	pause   time.Duration // between the last two attempts
	gone    bool          // it is not offered any more
}

// loading is a load in progress; err may be read once done is closed.
type loading struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error
}

// Offer sets the versions of a model that are served beside those of the repository,
// instead of those offered before. A version that stays the same stays loaded. Of a number
// that is also in the repository, the repository's version is served. Offer returns why
// versions cannot be offered, by number.
func (s *Server) Offer(ctx context.Context, name string, offers []Offer) map[int64]error {
	refused := map[int64]error{}
	if !s.configured(name) {
		return refused
	}
	_ = s.exclusive(ctx, name, func(m *modelState) error { // it fails with ctx alone
		next := map[int64]*offered{}
		var before map[int64]*offered
		var own map[int64]*loaded
		s.update(func() { before, own = m.offers, m.live })
		for _, o := range offers {
			if old := before[o.Number]; old != nil && old.SHA256 == o.SHA256 && reflect.DeepEqual(old.Config, o.Config) {
				s.update(func() { old.Read = o.Read }) // it may be kept elsewhere now
				next[o.Number] = old
				continue
			}
			if own[o.Number] != nil {
				s.cfg.Log.WarnContext(ctx, shadowed, "model", name, "version", o.Number)
			}
			if o.Graph != nil {
				next[o.Number] = &offered{Offer: o}
				continue
			}
			cold, err := s.describe(name, &o)
			if err != nil {
				refused[o.Number] = err
				continue
			}
			next[o.Number] = &offered{Offer: o, cold: cold}
			cold.offer = next[o.Number]
		}
		var retired []*Version
		s.update(func() {
			for number, old := range before {
				if next[number] == old {
					continue
				}
				if old.gone = true; old.live != nil {
					retired = append(retired, old.live)
					old.live = nil
				}
			}
			if m.offers = next; len(m.offers) > 0 && len(m.live) == 0 && len(before) == 0 {
				m.unloaded = false
			}
			s.publish(name, m)
			if len(m.offers) == 0 && len(m.live) == 0 && m.entry.Name == "" {
				delete(s.models, name) // the repository does not have it
			}
		})
		var began bool
		s.update(func() { began = s.began })
		if began { // else Start does, once the repository's models are there
			s.bindOffers(ctx, name, m)
		}
		s.retire(ctx, retired)
		return nil
	})
	return refused
}

// describe makes a version that stands in the table without being loaded.
func (s *Server) describe(name string, o *Offer) (*Version, error) {
	config, sig, err := model.Resolve(o.Config, o.Signature, s.cfg.Defaults)
	if err != nil {
		return nil, err
	}
	v := &Version{
		Name: name, Number: o.Number, Text: strconv.FormatInt(o.Number, 10), SHA256: o.SHA256,
		Signature: config.Asked(sig), graph: &sig, Config: config, Batches: *config.MaxBatchSize > 0, MaxRows: *config.MaxBatchSize,
		Invariance: "the version is not loaded here", Stats: new(Stats),
	}
	return v, s.checkFallback(v)
}

// shadowed is logged for a number that is both offered and in the repository.
const shadowed = "the repository's own version is served instead of the offered one of the same number"

// errLoading refuses a request that would have to wait for a load.
func errLoading(v *Version) error {
	return fault.New(fault.Unavailable, "'%s' version %s is being loaded: it was not wanted for a while, or never before", v.Name, v.Text).
		WithCode("model_loading").WithRetryAfter(time.Second)
}

// warm loads an offered version, and waits for that as long as configured and as ctx allows.
func (s *Server) warm(ctx context.Context, cold *Version) error {
	l, err := s.load(ctx, cold.offer, func(ctx context.Context) { s.makeRoom(ctx, 0, cold.offer) }) // again: it may be larger than expected
	if err != nil || l == nil {
		return err
	}
	wait := time.NewTimer(s.cfg.LoadWait)
	defer wait.Stop()
	select {
	case <-l.done:
		return l.err
	case <-wait.C:
		return errLoading(cold)
	case <-ctx.Done():
		return fault.Of(ctx.Err())
	}
}

// load returns the load in progress, and begins one if there is none; it returns nil if the
// version is loaded. then is called once this load has succeeded.
func (s *Server) load(ctx context.Context, o *offered, then func(context.Context)) (*loading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return nil, fault.New(fault.Unavailable, "the server is stopping").WithCode("model_not_ready").WithRetryAfter(time.Second)
	case o.live != nil || o.gone: // the table says so already
		return nil, nil //nolint:nilnil // there is nothing to wait for
	case o.loading != nil:
		return o.loading, nil
	case o.failed != nil && time.Now().Before(o.retry):
		return nil, fault.Wrap(fault.Unavailable, o.failed, "'%s' is not at ready state: version %s cannot be loaded: %s", o.cold.Name, o.cold.Text, fault.Of(o.failed).Message).
			WithCode("model_not_ready").WithRetryAfter(time.Until(o.retry))
	}
	// The load outlives whoever asked for it: others wait, or will ask.
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &loading{done: make(chan struct{}), cancel: cancel}
	o.loading = l
	s.loads.Go(func() {
		defer cancel()
		v, size, err := s.openOffer(detached, o)
		s.loaded(detached, o, v, size, err)
		l.err = err
		close(l.done)
		if err == nil {
			then(detached)
		}
	})
	return l, nil
}

// Times between attempts at what could not be loaded.
const (
	firstPause = 2 * time.Second
	lastPause  = time.Minute
)

// loaded puts a version that was opened into the table, or notes why it was not.
func (s *Server) loaded(ctx context.Context, o *offered, v *Version, size int64, err error) {
	var superfluous []*Version
	s.update(func() {
		o.loading = nil
		if err != nil {
			o.pause = min(max(2*o.pause, firstPause), lastPause)
			o.failed, o.retry = err, time.Now().Add(o.pause)
			return
		}
		o.failed, o.pause, o.size, o.began = nil, 0, size, time.Now()
		m := s.models[o.cold.Name]
		if o.gone || m == nil || m.unloaded {
			superfluous = append(superfluous, v)
			return
		}
		o.live = v
		o.shared.Store(v.CrossRequest)
		s.publish(v.Name, m)
	})
	if err != nil {
		s.metrics.loads.WithLabelValues("failed").Inc()
		s.cfg.Log.ErrorContext(ctx, "an offered model version cannot be loaded; it is tried again when a request wants it", "model", o.cold.Name, "version", o.cold.Text, "error", err)
		return
	}
	s.metrics.loads.WithLabelValues("loaded").Inc()
	s.cfg.Log.InfoContext(ctx, "model version loaded on demand", "model", v.Name, "version", v.Text, "sha256", v.SHA256, "memory_bytes", size,
		"max_batch", v.MaxRows, "cross_request_batching", v.CrossRequest, "invariance", v.Invariance)
	s.retire(ctx, superfluous)
}

// openOffer makes room for a version, opens it and measures its memory. One is opened at a
// time, since two would be measured together.
func (s *Server) openOffer(ctx context.Context, o *offered) (*Version, int64, error) {
	select {
	case s.single <- struct{}{}:
		defer func() { <-s.single }()
	case <-ctx.Done():
		return nil, 0, fault.Of(ctx.Err())
	}
	s.mu.Lock()
	expected, read := max(o.size, o.Bytes), o.Read
	s.mu.Unlock()
	if s.cfg.Memory > 0 && o.Bytes > s.cfg.Memory {
		return nil, 0, fault.New(fault.TooLarge, "its file has %d bytes, more than the %d that loaded versions may take (registry.memory)", o.Bytes, s.cfg.Memory)
	}
	s.makeRoom(ctx, expected, o)
	data, err := read(ctx)
	if err != nil {
		return nil, 0, err
	}
	before := native()
	v, err := s.open(ctx, source{name: o.cold.Name, number: o.Number, data: data, config: o.Config})
	if err != nil {
		return nil, 0, err
	}
	if v.SHA256 != o.SHA256 {
		_ = v.retire(ctx) // nobody uses it
		return nil, 0, fault.New(fault.Internal, "the file has the SHA-256 %s, expected %s", v.SHA256, o.SHA256).WithCode("checksum_mismatch")
	}
	v.Stats = o.cold.Stats // they go on from one load to the next
	return v, max(native()-before, o.Bytes), nil
}

// makeRoom unloads versions, the least recently used first, until more bytes fit; it never
// unloads stays.
func (s *Server) makeRoom(ctx context.Context, more int64, stays *offered) {
	if s.cfg.Memory <= 0 {
		return
	}
	for {
		var oldest *offered
		var victim *Version
		s.update(func() {
			held := more
			for _, m := range s.models {
				for _, o := range m.offers {
					if o.live == nil || o.Graph != nil {
						continue
					}
					if held += o.size; o != stays && (oldest == nil || o.used() < oldest.used()) {
						oldest = o
					}
				}
			}
			if oldest == nil || held <= s.cfg.Memory {
				oldest = nil
				return
			}
			victim, oldest.live = oldest.live, nil
			s.publish(victim.Name, s.models[victim.Name])
		})
		if oldest == nil {
			return
		}
		s.metrics.loads.WithLabelValues("evicted").Inc()
		s.cfg.Log.InfoContext(ctx, "model version unloaded: others need its memory", "model", victim.Name, "version", victim.Text, "memory_bytes", oldest.size)
		s.retire(ctx, []*Version{victim})
	}
}

// used is when a loaded version was last used, in Unix milliseconds; the far future for one
// in use.
func (o *offered) used() int64 {
	if o.live.Stats.Pending.Load() > 0 || o.live.Stats.wanted.Load() > 0 {
		return math.MaxInt64
	}
	return max(o.live.Stats.LastInference.Load(), o.began.UnixMilli())
}

// endLoads ends the loads in progress and waits for them; no more begin after that.
func (s *Server) endLoads() {
	s.update(func() {
		s.closing = true
		for _, m := range s.models {
			for _, o := range m.offers {
				if o.loading != nil {
					o.loading.cancel()
				}
			}
		}
	})
	s.loads.Wait()
}
