package serve

import (
	"context"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/route"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spare"
)

// Repository is where model files and their configurations come from.
type Repository interface {
	// Scan returns every model of the repository, sorted by name. An entry that
	// cannot be served says why in Err.
	Scan(ctx context.Context) ([]modelrepo.Entry, error)
	// Overlay returns one model, with parts replaced where the override says
	// so. It fails with fault.NotFound where there is none.
	Overlay(ctx context.Context, name string, o modelrepo.Override) (modelrepo.Entry, error)
	// Read returns a version's model file.
	Read(ctx context.Context, e modelrepo.Entry, version int64) ([]byte, error)
	// Poll reports the whole listing whenever a model has changed, and an error whenever the
	// models cannot be listed, until ctx ends.
	Poll(ctx context.Context, every time.Duration, report func([]modelrepo.Entry, error))
}

// TrialFunc tries a model file before it is loaded; see package probe.
type TrialFunc func(ctx context.Context, spec engine.Spec, sha256 string) (probe.Report, error)

// Config holds the settings of a Server.
type Config struct {
	Limits   onnx.Limits    // of model files
	Defaults model.Defaults // for what a model's config leaves open
	MaxQueue int            // requests waiting for one version; 0 means the batcher's default
	// Trial tries each new model file; nil tries it in this process.
	Trial TrialFunc
	// Only names the models to serve at the start; empty means all.
	Only []string
	// Poll is how often the repository is looked at for changes; 0 means never.
	Poll time.Duration
	// DrainTimeout bounds how long a version that is taken out of service may
	// keep answering its last requests; 0 means one minute.
	DrainTimeout time.Duration
	// Used is told what each answered online request took, and when. It must be quick. Work of
	// other classes is counted by whoever gives it.
	Used func(ctx context.Context, v *Version, at time.Time, u Use)
	// LoadWait is how long a request waits for a version that is loaded on demand;
	// then it is refused, to be tried again.
	LoadWait time.Duration
	// Memory bounds the measured bytes of all versions that are loaded on demand; 0 is no bound.
	// A version that takes more by itself is loaded alone, unless its file alone is larger.
	Memory int64
	// Recorder takes note of every request that came to a version; nil for none.
	Recorder Recorder
	// Features gives the inputs that models take from the feature store; nil: there is none.
	Features Features
	Shadow   ShadowConfig
	// CPU is told of online requests, so that other work gives way; nil for nobody.
	CPU     *spare.Processors
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps metrics to itself
}

// Server serves models. It implements Models.
type Server struct {
	engine  engine.Engine
	repo    Repository
	cfg     Config
	metrics *metrics
	table   atomic.Pointer[route.Table[*Version]]

	mu     sync.Mutex // guards models and the swap of table
	models map[string]*modelState
	began  bool // the first load is complete

	decoding chan struct{} // bounds how many large requests are decoded at a time
	opening  chan struct{} // bounds how many models are opened at a time
	single   chan struct{} // bounds how many are opened on demand at a time
	loads    sync.WaitGroup
	closing  bool // no load on demand begins any more; guarded by mu

	memory  *budget.Budget
	stale   chan struct{} // holds a token while graphs have not been compared with the table
	shadows *shadows
}

// New returns a server that serves nothing until Start.
func New(e engine.Engine, repo Repository, cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = time.Minute
	}
	if cfg.Limits.MaxBytes == 0 {
		cfg.Limits = onnx.DefaultLimits()
	}
	s := &Server{engine: e, repo: repo, cfg: cfg, memory: budget.New(math.MaxInt64, ""), models: map[string]*modelState{},
		decoding: make(chan struct{}, spare.Cores()), opening: make(chan struct{}, 2), single: make(chan struct{}, 1), stale: make(chan struct{}, 1)}
	if cfg.Trial == nil {
		s.cfg.Trial = s.tryHere
	}
	s.table.Store(&route.Table[*Version]{})
	s.metrics = newMetrics(cfg.Metrics)
	cfg.Metrics.MustRegister(collector{s})
	s.shadows = newShadows(s, cfg.Shadow)
	return s
}

// tryHere probes a model in this process.
func (s *Server) tryHere(ctx context.Context, spec engine.Spec, _ string) (probe.Report, error) {
	session, err := s.engine.Open(ctx, spec)
	if err != nil {
		return probe.Report{}, err
	}
	defer func() { _ = session.Close() }()
	return probe.Invariance(ctx, session, spec), ctx.Err()
}

// acquire returns the version that serves a request, with a reference taken.
func (s *Server) acquire(ctx context.Context, name, version string, r experiment.Request) (route.Choice[*Version], error) {
	for {
		chosen, err := s.table.Load().Pick(name, version, r)
		if err != nil {
			return chosen, s.explain(name, version, err)
		}
		if chosen.Value.acquire() {
			return chosen, nil
		}
		if chosen.Value.offer != nil {
			if err := s.warm(ctx, chosen.Value); err != nil {
				return chosen, err
			}
			continue
		}
		// The version was retired between the two steps: the table that
		// replaced it is there already.
	}
}

// explain says in a routing error why a model is not served now, if the server knows.
func (s *Server) explain(name, version string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.models[name]
	if !ok {
		return err
	}
	problems := m.reasons()
	if reason, ok := problems[""]; ok {
		return fault.New(fault.Unavailable, "'%s' is not at ready state: %s", name, reason).WithCode("model_not_ready")
	}
	number := version
	if n, ok := s.table.Load().Stands(name, version); ok {
		number = strconv.FormatInt(n, 10)
	} else if version == "" {
		number = greatest(problems)
	}
	if reason, ok := problems[number]; ok {
		return fault.New(fault.Unavailable, "'%s' version %s is not at ready state: %s", name, number, reason).WithCode("model_not_ready")
	}
	if m.loading {
		return fault.New(fault.Unavailable, "'%s' is not at ready state: it is being loaded", name).WithCode("model_not_ready").WithRetryAfter(time.Second)
	}
	return err
}

// greatest returns the greatest number of a version that has a problem: where no
// version is live and none is named, that one would serve.
func greatest(problems map[string]string) string {
	most := int64(-1)
	for number := range problems {
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			most = max(most, n)
		}
	}
	return strconv.FormatInt(most, 10)
}

// Lookup implements Models.
func (s *Server) Lookup(name, version string) (*Version, error) {
	chosen, err := s.Choose(name, version, nil)
	return chosen.Value, err
}

// Choose implements Models.
func (s *Server) Choose(name, version string, r experiment.Request) (route.Choice[*Version], error) {
	chosen, err := s.table.Load().Pick(name, version, r)
	if err != nil {
		return chosen, s.explain(name, version, err)
	}
	return chosen, nil
}

// Name replaces all aliases and experiments, by model, from the next request on. Requests in
// progress keep their versions.
func (s *Server) Name(names map[string]route.Names) {
	s.update(func() { s.table.Store(s.table.Load().Named(names)) })
	s.changed()
}

// Versions implements Models.
func (s *Server) Versions(name string) ([]*Version, error) {
	numbered, ok := s.table.Load().Versions(name)
	if !ok {
		_, err := s.Lookup(name, "")
		return nil, err
	}
	versions := make([]*Version, len(numbered))
	for i := range numbered {
		versions[i] = numbered[i].Value
	}
	return versions, nil
}

// Names implements Models.
func (s *Server) Names() []string { return s.table.Load().Names() }
