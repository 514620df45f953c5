package export

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/sorter"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Config holds the limits of exports; the zero value has defaults.
type Config struct {
	Keep       time.Duration // of the files of one that is complete, and of what is told of the others; default 7 days
	PartSize   int64         // bytes of a file after which the next begins; default 1 GiB
	MaxActive  int           // of a tenant, under way; default 20
	MaxExports int           // of a tenant, that are remembered; default 1000
	Sort       sorter.Config // of exports that are sorted

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// maxAge is how long an export may wait and run: then it is forgotten.
const maxAge = 30 * 24 * time.Hour

func (c Config) withDefaults() Config {
	if c.Keep <= 0 {
		c.Keep = 7 * 24 * time.Hour
	}
	if c.PartSize <= 0 {
		c.PartSize = 1 << 30
	}
	for _, d := range []struct {
		value *int
		def   int
	}{{&c.MaxActive, 20}, {&c.MaxExports, 1000}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Bucket is what exports need of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
	blob.Presigner
}

// Service has exports, and runs them.
type Service struct {
	store    *repo.Store
	bus      *cqrs.Bus
	bucket   Bucket
	datasets map[string]*Dataset
	order    []*Dataset
	cfg      Config
	metrics  *metrics
	beat     time.Duration // between the signs of life of an attempt
}

// New returns the service, and registers its commands and queries with the bus.
// Datasets have different names and schemas that are right: it panics otherwise,
// for that is a defect.
func New(store *repo.Store, bus *cqrs.Bus, bucket Bucket, datasets []*Dataset, cfg Config) (*Service, error) {
	s := &Service{store: store, bus: bus, bucket: bucket, datasets: map[string]*Dataset{}, order: datasets, cfg: cfg.withDefaults(), beat: lease / 3}
	for _, d := range datasets {
		if err := d.Schema.Check(); err != nil || s.datasets[d.Name] != nil || d.Schema.Index(d.Time) < 0 || d.Permission == "" {
			panic("export: dataset " + d.Name + " is there twice, or has no permission, no time or no right schema")
		}
		s.datasets[d.Name] = d
	}
	var err error
	s.metrics, err = newMetrics(cfg.Metrics)
	s.register(bus)
	return s, err
}

// Datasets returns what can be exported.
func (s *Service) Datasets() []*Dataset { return s.order }

// Now returns the time by which exports expire.
func (s *Service) Now() time.Time { return s.store.Now() }

// Find returns an export.
func (s *Service) Find(ctx context.Context, id ID) (*Export, error) {
	return cqrs.Ask(ctx, s.bus, Find{ID: id})
}

// List returns a page of exports.
func (s *Service) List(ctx context.Context, q List) (spec.Page[Export], error) {
	return cqrs.Ask(ctx, s.bus, q)
}

// Cancel ends an export that is not wanted any more. What it has written its worker
// drops, or the sweep of orphans.
func (s *Service) Cancel(ctx context.Context, id ID) (*Export, error) {
	return cqrs.Send(ctx, s.bus, Cancel{ID: id})
}

// Preview returns the first rows that an export would have.
func (s *Service) Preview(ctx context.Context, r Request) (*Sample, error) {
	return cqrs.Ask(ctx, s.bus, Preview{Request: r})
}

// Content returns a part of an export, from 1, and what reads it; of all of it the
// digest is checked on the way. The audit log has that it was asked for.
func (s *Service) Content(ctx context.Context, id ID, part int) (*Export, Part, func(ctx context.Context, offset, length int64) (io.ReadCloser, error), error) {
	e, err := cqrs.Send(ctx, s.bus, Download{ID: id})
	if err != nil {
		return nil, Part{}, nil, err
	}
	switch {
	case part == 0 && len(e.Parts) > 1:
		return nil, Part{}, nil, fault.New(fault.Conflict, "the export has %d files: ask for each with ?part=, from 1", len(e.Parts)).WithCode("export_has_parts")
	case part < 0 || part > len(e.Parts):
		return nil, Part{}, nil, fault.New(fault.NotFound, "the export has %d files, and none of number %d", len(e.Parts), part).WithCode("part_not_found")
	}
	p := e.Parts[max(part, 1)-1]
	return e, p, func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		o, err := s.bucket.Get(ctx, p.Object, blob.GetOptions{Range: blob.Range{Offset: offset, Length: length}})
		if err != nil {
			return nil, err
		}
		o.Info.SHA256 = p.SHA256
		return struct {
			io.Reader
			io.Closer
		}{o.Verified(), o.Body}, nil
	}, nil
}

// Presign returns an address that downloads a part for a quarter of an hour, or a
// fault of kind Unsupported where the bucket has none to give.
func (s *Service) Presign(ctx context.Context, p Part) (string, error) {
	return s.bucket.PresignGet(ctx, p.Object, 15*time.Minute, p.Name)
}

// drop deletes objects. Where that fails, the sweep of orphans does it.
func (s *Service) drop(ctx context.Context, parts []Part) {
	for _, p := range parts {
		if err := s.bucket.Delete(ctx, p.Object); err != nil && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "a file of an export could not be removed; the sweep will do it", "error", err)
		}
	}
}

// Sample is the first rows of an export.
type Sample struct {
	Rows *table.Chunk
	More bool // there are more than these
}

// SampleRows is how many rows a sample has at most, sampleScan how many records it
// looks at for them, and sampleBytes how much of them it sorts.
const (
	SampleRows  = 100
	sampleScan  = 100_000
	sampleBytes = 32 << 20
)

// sample reads the first rows of a plan. Those of one that is sorted are the first of
// all, which it has to have seen.
func (s *Service) sample(ctx context.Context, tenant string, p *plan) (*Sample, error) {
	scan, err := p.dataset.Open(ctx, tenant, p.slice)
	if err != nil {
		return nil, err
	}
	out := &Sample{Rows: table.NewChunk(p.schema)}
	from := table.NewChunk(p.dataset.Schema)
	whole := false
	for scan.Seen() < sampleScan && (len(p.sort) > 0 || out.Rows.Rows() <= SampleRows) {
		if err := scan.Read(ctx, from); errors.Is(err, io.EOF) {
			whole = true
			break
		} else if err != nil {
			return nil, err
		}
		p.project(from, out.Rows)
		if len(p.sort) > 0 && out.Rows.Bytes() > sampleBytes {
			break
		}
	}
	if len(p.sort) > 0 {
		if !whole {
			return nil, fault.New(fault.Unprocessable, "the first rows of so many cannot be shown sorted: choose less by from, to or filters, or leave sort out").WithCode("preview_unsorted")
		}
		out.Rows = sorter.First(out.Rows, p.sort, SampleRows+1)
	}
	out.More = !whole || out.Rows.Rows() > SampleRows
	out.Rows.Truncate(SampleRows)
	return out, nil
}
