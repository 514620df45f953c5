package evaluation

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Config holds the limits of evaluations; the zero value has defaults.
type Config struct {
	Keep           time.Duration // of one that has ended, with its differences; default 7 days
	MaxActive      int           // of a tenant, under way; default 10
	MaxEvaluations int           // of a tenant, that are remembered; default 500
	MaxRows        int64         // of one; default 1,000,000
	// Content is what it takes to have predictions of the log asked again.
	Content access.Permission

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// maxAge is how long an evaluation may wait and run: then it is forgotten.
const maxAge = 30 * 24 * time.Hour

func (c Config) withDefaults() Config {
	c.Keep, c.MaxActive = cmp.Or(c.Keep, 7*24*time.Hour), cmp.Or(c.MaxActive, 10)
	c.MaxEvaluations, c.MaxRows = cmp.Or(c.MaxEvaluations, 500), cmp.Or(c.MaxRows, 1_000_000)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Bucket is what evaluations need of a bucket.
type Bucket interface {
	blob.Reader
	blob.Writer
}

// Service has evaluations, and runs them.
type Service struct {
	store   *repo.Store
	bus     *cqrs.Bus
	bucket  Bucket
	models  Models // nil where this process has none
	log     Log    // nil where there is none, or not the same for all processes
	files   Files  // nil where it reads none
	cfg     Config
	metrics *metrics
	beat    time.Duration // between the signs of life of an attempt
	chunk   int           // cases of the first chunks
}

// New returns the service, and registers its commands and queries with the bus. What of the
// models, the log and the files a process has not is nil.
func New(store *repo.Store, bus *cqrs.Bus, bucket Bucket, models Models, log Log, files Files, cfg Config) (*Service, error) {
	s := &Service{store: store, bus: bus, bucket: bucket, models: models, log: log, files: files, cfg: cfg.withDefaults(), beat: lease / 3, chunk: chunkCases}
	var err error
	s.metrics, err = newMetrics(cfg.Metrics)
	s.register(bus)
	return s, err
}

// Start asks for an evaluation.
type Start struct {
	ID        ID // of one that is made once however often that is asked for; a new one where it is empty
	Name      string
	Model     string
	Candidate string // a number or an alias
	Baseline  string // the same; empty compares with what was logged
	Upload    *Upload
	Request   // for the rest
}

// Start accepts an evaluation, if its tenant has room for one more.
func (s *Service) Start(ctx context.Context, in Start) (*Evaluation, error) {
	p, ok := access.From(ctx)
	if !ok || !p.Can(Write) {
		return cqrs.Send(ctx, s.bus, start{}) // which the bus refuses
	}
	e := Evaluation{Name: in.Name, Request: in.Request}
	if e.ID = in.ID; e.ID == "" {
		e.ID = aggregate.NewID[ID](Prefix, uuid.Must(uuid.NewV7()))
	}
	if err := s.room(ctx, p.Tenant, e.ID); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx, p.Tenant, &e, in); err != nil {
		return nil, err
	}
	made, err := cqrs.Send(ctx, s.bus, start{evaluation: e})
	if f := e.Request.File; f != nil && err != nil && !fault.Of(err).Kind.Retryable() { // else it may have been accepted; the sweep knows
		_ = s.bucket.Delete(context.WithoutCancel(ctx), f.Object)
	}
	return made, err
}

// resolve makes a request complete: it finds the versions and the file, and says what is
// wrong.
func (s *Service) resolve(ctx context.Context, tenant string, e *Evaluation, in Start) error {
	r := &e.Request
	if s.models == nil {
		return fault.New(fault.Unavailable, "this process has no models to evaluate")
	}
	r.Model = in.Model
	candidate, err := s.models.Find(in.Model, in.Candidate)
	if err != nil {
		return err
	}
	r.Candidate = candidate.Version
	var baseline *Served
	if in.Baseline != "" {
		if baseline, err = s.models.Find(in.Model, in.Baseline); err != nil {
			return err
		}
		r.Baseline = &baseline.Version
	}
	if err := s.MayRead(ctx, r); err != nil {
		return err
	}
	if r.Logged != nil && s.log == nil {
		return errNoLog
	}
	if in.Upload != nil {
		if s.files == nil {
			return fault.New(fault.Unavailable, "this process reads no files")
		}
		for _, by := range r.By {
			if !OfTensors(by) {
				in.Upload.Segments = append(in.Upload.Segments, by)
			}
		}
		if r.File, err = s.files.Take(ctx, tenant, e.ID, *in.Upload, candidate); err != nil {
			return err
		}
	}
	if err = r.complete(candidate, baseline, s.cfg.MaxRows, s.store.Now()); err != nil && r.File != nil {
		_ = s.bucket.Delete(context.WithoutCancel(ctx), r.File.Object)
	}
	return err
}

var errNoLog = fault.New(fault.Unprocessable, "this server keeps no prediction log, or not one that all its processes share: set record.url, or evaluate an upload").WithCode("evaluation_needs_log")

// room returns why the tenant may not have another evaluation, nil where it may: one that is
// there takes no more room. Requests at
// the same moment may exceed the limit by as many as they are.
func (s *Service) room(ctx context.Context, tenant string, id ID) error {
	all, active := 0, 0
	for e, err := range Evaluations.All(ctx, s.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Evaluation]{}) {
		if err != nil {
			return err
		}
		if e.Root.ID == id {
			return nil
		}
		if all++; !e.Final() {
			active++
		}
	}
	switch {
	case active >= s.cfg.MaxActive:
		return fault.New(fault.Exhausted, "the tenant has %d evaluations under way, which is as many as it may: wait for one to end, or cancel one", active).WithCode("evaluation_quota").WithRetryAfter(10 * time.Second)
	case all >= s.cfg.MaxEvaluations:
		return fault.New(fault.Exhausted, "the tenant has %d evaluations, which is as many as it may: delete some that are not needed", all).WithCode("evaluation_quota").WithRetryAfter(time.Minute)
	}
	return nil
}

// Now returns the time by which evaluations begin.
func (s *Service) Now() time.Time { return s.store.Now() }

// Find returns an evaluation.
func (s *Service) Find(ctx context.Context, id ID) (*Evaluation, error) {
	return cqrs.Ask(ctx, s.bus, find{id: id})
}

// List returns a page of evaluations.
func (s *Service) List(ctx context.Context, q List) (spec.Page[Evaluation], error) {
	return cqrs.Ask(ctx, s.bus, q)
}

// Cancel ends an evaluation that is not wanted any more.
func (s *Service) Cancel(ctx context.Context, id ID) (*Evaluation, error) {
	return cqrs.Send(ctx, s.bus, cancelling{of{ID: id}})
}

// Delete drops an evaluation and its differences. A worker that is at it is told that it is
// gone.
func (s *Service) Delete(ctx context.Context, id ID) error {
	e, err := cqrs.Send(ctx, s.bus, deleting{of{ID: id}})
	if err != nil {
		return err
	}
	for _, key := range e.objects() {
		if err := s.bucket.Delete(context.WithoutCancel(ctx), key); err != nil {
			s.cfg.Log.WarnContext(ctx, "an object of an evaluation could not be removed; the sweep will do it", "error", err)
		}
	}
	return nil
}

// Differences returns an evaluation whose differences are all there, and what reads them
// from an offset on. The audit log has that they were asked for.
func (s *Service) Differences(ctx context.Context, id ID) (*Evaluation, func(ctx context.Context, offset, length int64) (io.ReadCloser, error), error) {
	e, err := cqrs.Send(ctx, s.bus, downloading{of{ID: id}})
	if err != nil {
		return nil, nil, err
	}
	pieces := make([]blob.Piece, len(e.Done.Diff.Parts))
	for i, p := range e.Done.Diff.Parts {
		pieces[i] = blob.Piece{Key: p.Object, Bytes: p.Bytes, SHA256: p.SHA256}
	}
	return e, func(ctx context.Context, offset, _ int64) (io.ReadCloser, error) {
		return blob.Join(ctx, s.bucket, pieces, offset), nil
	}, nil
}

// cases opens what is asked.
func (s *Service) cases(ctx context.Context, tenant string, r *Request) (Cases, error) {
	if s.models == nil {
		return nil, fault.New(fault.Unavailable, "this process has no models to evaluate")
	}
	candidate, err := s.models.Find(r.Model, r.Candidate.Number)
	if err != nil {
		return nil, err
	}
	switch {
	case candidate.Digest != r.Candidate.Digest:
		return nil, Other(r.Candidate)
	case r.File != nil:
		return s.files.Open(ctx, r.File)
	case s.log == nil:
		return nil, errNoLog
	}
	return newLogged(s.log, tenant, r, candidate), nil
}
