package schedule

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/batch/export"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Create makes a schedule.
type Create struct {
	cqrs.Returns[*Schedule]
	Plan Plan
}

// CommandName implements cqrs.Command.
func (Create) CommandName() string { return "export_schedules.create" }

// Change changes the plan of a schedule; who changes it owns it from then on.
type Change struct {
	cqrs.Returns[*Schedule]
	ID      ID
	Patch   Patch
	Version int64 // of the schedule that it is meant for
	Any     bool  // it is meant for whatever is there
}

// CommandName implements cqrs.Command.
func (Change) CommandName() string { return "export_schedules.change" }

// Target implements cqrs.Targeted.
func (c Change) Target() (kind, id string) { return Schedules.Name, string(c.ID) }

// Delete drops a schedule. Its exports stay.
type Delete struct {
	cqrs.Returns[*Schedule]
	ID ID
}

// CommandName implements cqrs.Command.
func (Delete) CommandName() string { return "export_schedules.delete" }

// Target implements cqrs.Targeted.
func (c Delete) Target() (kind, id string) { return Schedules.Name, string(c.ID) }

// Find asks for one schedule.
type Find struct {
	cqrs.Returns[*Schedule]
	ID ID
}

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "export_schedules.read" }

// List asks for a page of schedules.
type List struct {
	cqrs.Returns[spec.Page[Schedule]]
	Query spec.Query[Schedule]
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "export_schedules.list" }

// Owners knows what owners of schedules may do now.
type Owners interface {
	// Principal returns the owner as it is now; PermissionDenied where there is
	// nobody any more.
	Principal(ctx context.Context, tenant string, o Owner) (*access.Principal, error)
}

// maxSchedules is how many a tenant may have.
const maxSchedules = 100

// Service has schedules, and makes their exports.
type Service struct {
	store   *repo.Store
	bus     *cqrs.Bus
	exports *export.Service
	owners  Owners
	log     *slog.Logger
	fires   *prometheus.CounterVec
}

// New returns the service, and registers its commands and queries with the bus. The
// log and the metrics may be nil.
func New(store *repo.Store, bus *cqrs.Bus, exports *export.Service, owners Owners, metrics prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{store: store, bus: bus, exports: exports, owners: owners, log: log}
	s.fires = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_export_schedules_fired_total", Help: "Times of export schedules by what came of them: made, skipped, failed, waiting."}, []string{"outcome"})
	s.register(bus)
	if metrics != nil {
		if err := metrics.Register(s.fires); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of schedules cannot be registered")
		}
	}
	return s, nil
}

func (s *Service) register(b *cqrs.Bus) {
	cqrs.Handle(b, export.Write, func(ctx context.Context, tx *repo.Tx, c Create) (*Schedule, error) {
		page, err := Schedules.Find(ctx, tx, spec.Query[Schedule]{Limit: maxSchedules})
		if err != nil {
			return nil, err
		}
		if len(page.Items) >= maxSchedules {
			return nil, fault.New(fault.Exhausted, "the tenant has %d schedules, as many as it may: delete one", maxSchedules).WithCode("schedule_quota")
		}
		x := &Schedule{}
		x.ID = repo.NewID[ID](tx, Prefix)
		if err := s.set(ctx, tx, x, c.Plan); err != nil {
			return nil, err
		}
		return x, Schedules.Add(ctx, tx, x)
	})
	cqrs.Handle(b, export.Write, func(ctx context.Context, tx *repo.Tx, c Change) (*Schedule, error) {
		x, err := Schedules.Update(ctx, tx, c.ID, func(x *Schedule) error {
			if !c.Any {
				if err := x.Expect(c.Version); err != nil {
					return err
				}
			}
			return s.set(ctx, tx, x, c.Patch.apply(x.Plan))
		})
		return &x, err
	})
	cqrs.Handle(b, export.Write, func(ctx context.Context, tx *repo.Tx, c Delete) (*Schedule, error) {
		x, err := Schedules.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		return &x, Schedules.Erase(ctx, tx, c.ID)
	})
	cqrs.HandleQuery(b, export.Read, func(ctx context.Context, from repo.Reading, q Find) (*Schedule, error) {
		x, err := Schedules.Get(ctx, from, q.ID)
		return &x, err
	})
	cqrs.HandleQuery(b, export.Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Schedule], error) {
		return Schedules.Find(ctx, from, q.Query)
	})
}

// set gives a schedule a plan that its new owner may have.
func (s *Service) set(ctx context.Context, tx *repo.Tx, x *Schedule, p Plan) error {
	o, err := ownerOf(ctx)
	if err != nil {
		return err
	}
	if err := s.exports.Allowed(ctx, p.Request); err != nil {
		return err
	}
	return x.Set(p, o, tx.Now())
}

// ownerOf returns who asks, if it can be found out later what they may do then.
func ownerOf(ctx context.Context) (Owner, error) {
	p, _ := access.From(ctx)
	if p == nil {
		return Owner{}, fault.New(fault.PermissionDenied, "a schedule needs an owner")
	}
	switch p.Method {
	case access.MethodNone, access.MethodPassword:
		return Owner{Kind: p.Kind, Subject: p.Subject}, nil
	case access.MethodAPIKey:
		return Owner{Kind: p.Kind, Subject: p.Subject, Credential: p.Credential}, nil
	}
	return Owner{}, fault.New(fault.PermissionDenied, "what the owner of a schedule may do is asked for at each of its times, which this credential does not allow: make it with an API key, or signed in with a password").WithCode("schedule_owner")
}

// Look makes the exports of a tenant's schedules that are due.
func (s *Service) Look(ctx context.Context, tenant string) error {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	for x, err := range Schedules.All(ctx, s.store.Read(scope), spec.Query[Schedule]{Where: next.Le(s.store.Now()), Order: next.Asc()}) {
		if err != nil {
			return err
		}
		for range catchUp {
			if x.Next.After(s.store.Now()) || ctx.Err() != nil {
				break
			}
			before := x.Next
			if x, err = s.fire(ctx, scope, x); err != nil {
				s.log.WarnContext(ctx, "the export of a schedule could not be made; that is tried again", "schedule", string(x.ID), "error", err)
				break
			}
			if !x.Next.After(before) {
				break
			}
		}
	}
	return ctx.Err()
}

// catchUp is how many times of one schedule are made up for at a time.
const catchUp = 100

// fire makes the export that is due of a schedule, and notes that. It returns what the schedule
// is then.
func (s *Service) fire(ctx context.Context, scope repo.Scope, x Schedule) (Schedule, error) {
	t, err := Parse(x.Plan.Cron, x.Plan.TimeZone)
	if err != nil {
		return x, err
	}
	at, missed, made := x.due(t, s.store.Now())
	f := Fired{Time: at, Outcome: Skipped}
	if made {
		f = s.make(ctx, scope, &x, at)
	}
	if f.Outcome == Waiting && x.Last != nil && *x.Last == f {
		return x, nil // nothing new
	}
	s.fires.WithLabelValues(string(f.Outcome)).Inc()
	var after Schedule
	err = s.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		after, err = Schedules.Update(ctx, tx, x.ID, func(now *Schedule) error {
			if now.Next.Equal(x.Next) { // else somebody has been there before, or changed it
				now.fired(t, f, missed)
			}
			return nil
		})
		return err
	})
	switch {
	case errors.Is(err, repo.ErrNotFound):
		x.Next = never
		return x, nil
	case err != nil:
		return x, err
	}
	return after, nil
}

// make asks for the export of a time in the owner's name.
func (s *Service) make(ctx context.Context, scope repo.Scope, x *Schedule, at time.Time) Fired {
	f := Fired{Time: at, Outcome: Made, Export: exportID(x.ID, at)}
	why := s.ask(ctx, scope, x, f)
	if why == nil {
		return f
	}
	e := fault.Of(why)
	f.Export, f.Code, f.Message = "", fault.CodeOf(e), e.Text()
	switch {
	case f.Code == codeRunning:
		f.Outcome = Skipped
	case e.Kind.Retryable():
		f.Outcome = Waiting
	default:
		f.Outcome = Failed
	}
	return f
}

// codeRunning says that the export before has not ended.
const codeRunning = "export_running"

func (s *Service) ask(ctx context.Context, scope repo.Scope, x *Schedule, f Fired) error {
	if last := x.Last; last != nil && last.Export != "" && x.Plan.Overlap == Wait {
		e, err := export.Exports.Get(ctx, s.store.Read(scope), last.Export)
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		if err == nil && !e.Final() {
			return fault.New(fault.Conflict, "the export %s has not ended", e.ID).WithCode(codeRunning)
		}
	}
	p, err := s.owners.Principal(ctx, x.Tenant, x.Owner)
	if err != nil {
		return err
	}
	_, err = s.exports.Create(access.With(ctx, p), export.Create{ID: f.Export, Name: x.Plan.Name, Schedule: string(x.ID), Request: x.request(f.Time)})
	if errors.Is(err, repo.ErrExists) {
		err = nil // made by who did not get to note it
	}
	return err
}

// exportID is the id of the export of a time, the same whoever makes it.
func exportID(id ID, at time.Time) export.ID {
	ms := at.UnixMilli()
	sum := sha256.Sum256([]byte(string(id) + at.UTC().Format(time.RFC3339)))
	var u uuid.UUID
	copy(u[6:], sum[:])
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80 // version 7, as others have it
	return aggregate.NewID[export.ID](export.Prefix, u)
}

// Create makes a schedule.
func (s *Service) Create(ctx context.Context, p Plan) (*Schedule, error) {
	return cqrs.Send(ctx, s.bus, Create{Plan: p})
}

// Change changes the plan of a schedule.
func (s *Service) Change(ctx context.Context, c Change) (*Schedule, error) {
	return cqrs.Send(ctx, s.bus, c)
}

// Delete drops a schedule. Its exports stay.
func (s *Service) Delete(ctx context.Context, id ID) error {
	_, err := cqrs.Send(ctx, s.bus, Delete{ID: id})
	return err
}

// Find returns a schedule.
func (s *Service) Find(ctx context.Context, id ID) (*Schedule, error) {
	return cqrs.Ask(ctx, s.bus, Find{ID: id})
}

// List returns a page of schedules.
func (s *Service) List(ctx context.Context, q spec.Query[Schedule]) (spec.Page[Schedule], error) {
	return cqrs.Ask(ctx, s.bus, List{Query: q})
}
