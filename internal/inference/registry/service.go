package registry

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// InUse says why a version must not be archived or deleted, such as an alias that names it,
// or "". It is asked in the unit of work that would do so, and can read what belongs to the
// platform.
type InUse func(ctx context.Context, from repo.Reading, model string, number int64) (why string, err error)

// Source is a finished upload that becomes a file.
type Source struct {
	Name   string // of the file
	SHA256 string
	Bytes  int64
	Object string // the upload's
}

// Config holds what a Service may be given; the zero value has defaults.
type Config struct {
	Limits    onnx.Limits    // of model files; default onnx.DefaultLimits
	Defaults  model.Defaults // for what configurations leave open
	Retention time.Duration  // for which a deleted version can be restored; default 7 days
	// Graphs are checked against, and tried with, the models that are served here;
	// nil refuses graphs.
	Graphs Graphs
	// InUse are all asked before a version is archived or deleted, beside the graphs
	// that use it.
	InUse []InUse
	// Taken says which numbers of a model must not be given; nil for none.
	Taken func(ctx context.Context, model string) (func(number int64) bool, error)
	// Verify refuses versions by their signature; nil refuses none.
	Verify  Verify
	Memory  *budget.Budget        // holds what inspections and trials read; nil for no bound
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

func (c Config) withDefaults() Config {
	if c.Limits.MaxBytes == 0 {
		c.Limits = onnx.DefaultLimits()
	}
	if c.Retention <= 0 {
		c.Retention = 7 * 24 * time.Hour
	}
	if c.Taken == nil {
		c.Taken = func(context.Context, string) (func(int64) bool, error) { return func(int64) bool { return false }, nil }
	}
	if c.Memory == nil {
		c.Memory = budget.New(math.MaxInt64, "")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Bucket is what the registry needs of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
	blob.Copier
}

// Service takes versions.
type Service struct {
	store    *repo.Store
	bus      *cqrs.Bus
	bucket   Bucket
	cfg      Config
	outcomes *prometheus.CounterVec
	// reading bounds how many versions are inspected at a time.
	reading chan struct{}
}

// New returns the service, and registers its commands and queries with the bus.
func New(store *repo.Store, bus *cqrs.Bus, bucket Bucket, cfg Config) (*Service, error) {
	s := &Service{store: store, bus: bus, bucket: bucket, cfg: cfg.withDefaults(), reading: make(chan struct{}, 2),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_model_versions_total",
			Help: "Versions of models by what became of them: registered, known, refused, ready, rejected, purged."}, []string{"outcome"})}
	s.register(bus)
	if cfg.Metrics == nil {
		return s, nil
	}
	if err := cfg.Metrics.Register(s.outcomes); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the metrics of the model registry cannot be registered")
	}
	return s, nil
}

// Bus returns the bus that answers the commands and queries of this package.
func (s *Service) Bus() *cqrs.Bus { return s.bus }

// unused fails where a version is needed, and says by what.
func (s *Service) unused(ctx context.Context, from repo.Reading, v *Version) error {
	if is, err := s.beingNamed(ctx, from, v.ID); err != nil || is {
		return cmp.Or(err, errInUse(v, "an alias, a release or an experiment is about to name it"))
	}
	for _, ask := range s.cfg.InUse {
		why, err := ask(ctx, from, v.Model, v.Number)
		if err != nil {
			return err
		}
		if why != "" {
			return errInUse(v, why)
		}
	}
	why, err := s.usedByGraph(ctx, from, v)
	if err == nil && why != "" {
		err = errInUse(v, why)
	}
	return err
}

// Served returns the versions that every node serves.
func Served(ctx context.Context, store *repo.Store) ([]Version, error) {
	var all []Version
	for v, err := range Versions.All(ctx, store.Read(repo.Scope{}), spec.Query[Version]{Where: stageField.Eq(Ready)}) {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
