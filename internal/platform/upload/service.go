package upload

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Config holds the limits of uploads; the zero value has defaults.
type Config struct {
	MaxSize    int64         // bytes of one upload; default 5 GiB
	MaxAppend  int64         // bytes of one request; default 64 MiB
	Quota      int64         // bytes of a tenant's uploads; default 50 GiB
	MaxUploads int           // of a tenant; default 1000
	MaxAppends int           // requests of a tenant that append at a time; default 8
	Expiry     time.Duration // of one that is not complete; default 24 hours, under the 48 after which parts are swept
	Keep       time.Duration // of content that is complete; default 7 days

	// AddressKey signs the addresses of parts that are put to this server; without
	// one they hold for this process alone.
	AddressKey []byte

	Memory  *budget.Budget        // of which each append holds what it needs; nil is without limit
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value *int64
		def   int64
	}{{&c.MaxSize, 5 << 30}, {&c.MaxAppend, 64 << 20}, {&c.Quota, 50 << 30}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if c.MaxUploads <= 0 {
		c.MaxUploads = 1000
	}
	if c.MaxAppends <= 0 {
		c.MaxAppends = 8
	}
	if len(c.AddressKey) == 0 {
		c.AddressKey = []byte(rand.Text())
	}
	if c.Memory == nil {
		c.Memory = budget.New(math.MaxInt64, "")
	}
	if c.Expiry <= 0 {
		c.Expiry = 24 * time.Hour
	}
	if c.Keep <= 0 {
		c.Keep = 7 * 24 * time.Hour
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// pieceSize is how large parts are, in bytes. An append holds up to twice as much
// in memory: its buffer grows by doubling.
const pieceSize = 8 << 20

// Bucket is what uploads need of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
	blob.Multipart
	blob.UploadLister
	blob.Presigner
}

// Service takes uploads.
type Service struct {
	store    *repo.Store
	bus      *cqrs.Bus
	bucket   Bucket
	cfg      Config
	metrics  *metrics
	seed     maphash.Seed
	creating [64]sync.Mutex // by tenants, see Create
	writers  writers
	pieces   sync.Pool
}

// New returns the service, and registers its commands and queries with the bus.
func New(store *repo.Store, bus *cqrs.Bus, bucket Bucket, cfg Config) (*Service, error) {
	s := &Service{store: store, bus: bus, bucket: bucket, cfg: cfg.withDefaults(), seed: maphash.MakeSeed(), pieces: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
	var err error
	s.metrics, err = newMetrics(cfg.Metrics)
	s.register(bus)
	return s, err
}

// Limits returns the limits that hold.
func (s *Service) Limits() Config { return s.cfg }

// Now returns the time by which uploads expire.
func (s *Service) Now() time.Time { return s.store.Now() }

// Find returns an upload.
func (s *Service) Find(ctx context.Context, id ID) (*Upload, error) {
	return cqrs.Ask(ctx, s.bus, Find{ID: id})
}

// List returns a page of uploads.
func (s *Service) List(ctx context.Context, q List) (spec.Page[Upload], error) {
	return cqrs.Ask(ctx, s.bus, q)
}

// Content returns an upload that can be used, and what reads it: from an offset
// on, length bytes or more. Of all of it the digest is checked on the way.
func (s *Service) Content(ctx context.Context, id ID) (*Upload, func(ctx context.Context, offset, length int64) (io.ReadCloser, error), error) {
	u, err := s.Find(ctx, id)
	if err == nil {
		err = u.Usable(s.store.Now())
	}
	if err != nil {
		return nil, nil, err
	}
	return u, func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		o, err := s.bucket.Get(ctx, u.Object, blob.GetOptions{Range: blob.Range{Offset: offset, Length: length}})
		if err != nil {
			return nil, err
		}
		o.Info.SHA256 = u.SHA256
		return struct {
			io.Reader
			io.Closer
		}{o.Verified(), o.Body}, nil
	}, nil
}

// Folder is where the objects of uploads are, below their tenants'.
const Folder = "uploads"

// name returns a name for an object that nothing ever had.
func name(u *Upload) string {
	return strings.Join([]string{u.Tenant, Folder, string(u.ID), repo.RandomName()}, "/")
}

// Owned says whether an upload names an object, for blob.SweepOrphans.
func Owned(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, tenant+"/"+Folder+"/"), "/")
	u, err := Uploads.Get(ctx, store.Read(repo.Scope{Tenant: tenant}), ID(id))
	if errors.Is(err, repo.ErrNotFound) || fault.CodeOf(err) == "invalid_id" {
		return false, nil
	}
	return err != nil || u.Object == key || u.Tail == key, err
}

// Sweep expires a tenant's uploads whose time is over, and drops their content.
// It returns how many. What it does not get to drop nothing owns any more.
func (s *Service) Sweep(ctx context.Context, tenant string) (int, error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	n := 0
	for u, err := range Uploads.All(ctx, s.store.Read(scope), spec.Query[Upload]{Where: ends.Lt(s.store.Now()), Order: ends.Asc()}) {
		if err != nil {
			return n, err
		}
		expired := false // by this: a writer may have completed it since it was listed
		err := s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			_, err := Uploads.Update(ctx, tx, u.ID, func(now *Upload) error {
				u = *now
				expired = now.Expire(tx.Now())
				return nil
			})
			return err
		})
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return n, err
		}
		if err != nil || !expired {
			continue
		}
		s.metrics.ended("expired")
		s.drop(ctx, &u)
		n++
	}
	return n, nil
}

// drop deletes what an upload named before it ended. Where that fails, the sweep
// of objects that nothing owns does it.
func (s *Service) drop(ctx context.Context, u *Upload) {
	var errs []error
	if u.Multipart != "" {
		errs = append(errs, s.bucket.Abort(ctx, blob.Upload{Key: u.Object, ID: u.Multipart}))
	}
	for _, key := range []string{u.Object, u.Tail} {
		if key != "" {
			errs = append(errs, s.bucket.Delete(ctx, key))
		}
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		s.cfg.Log.WarnContext(ctx, "the content of an upload could not be removed; the sweep will do it", "upload", string(u.ID), "error", err)
	}
}

// metrics are what an operator sees of uploads.
type metrics struct {
	outcomes *prometheus.CounterVec
	bytes    prometheus.Counter
	writing  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_uploads_total", Help: "Uploads by how they ended: complete, failed, expired, deleted, over_quota."}, []string{"outcome"}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_upload_bytes_total", Help: "Bytes of uploads that were kept."}),
		writing:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_upload_appends", Help: "Requests that append to uploads now."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.bytes, m.writing} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of uploads cannot be registered")
		}
	}
	return m, nil
}

func (m *metrics) ended(outcome string) { m.outcomes.WithLabelValues(outcome).Inc() }
