// Package schedule has exports made again and again, by timetables.
//
// A schedule is an aggregate that knows which time is next. Who looks after schedules
// makes the export of that time, under an id that follows from the schedule and the
// time, and then notes it: a crash between the two, or two who look at once, make the
// same export, which is there once. The export is asked for in the name of the
// schedule's owner, by what the owner may at that time.
//
// Known limits: clocks that are put back let times more often than daily pause for an
// hour, see Timetable: such schedules are best in UTC.
package schedule

import (
	"cmp"
	"slices"
	"time"

	"sluice/internal/batch/export"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of a schedule, esc_….
type ID string

// Prefix is how ids of schedules begin.
const Prefix = "esc"

// Missed says what becomes of times that nobody was there for, or that passed while
// an export could not be made.
type Missed string

// What becomes of missed times.
const (
	Latest Missed = "latest" // the last of them is made up for
	All    Missed = "all"    // each is
	Skip   Missed = "skip"   // none is, if it was longer ago than grace
)

// Overlap says what becomes of a time at which the export before has not ended.
type Overlap string

// What becomes of such times.
const (
	Wait  Overlap = "skip" // none is made
	Along Overlap = "run"  // it is made beside the other
)

// Plan is what is to be exported, and when.
type Plan struct {
	Name     string `json:"name,omitempty"`
	Cron     string `json:"cron"`
	TimeZone string `json:"time_zone,omitempty"`
	// Request has no as_of: that is the time of each export.
	Request export.Request `json:"request"`
	// Window has each export begin where the one before has ended, and end at its own
	// time, in place of the request's From and To.
	Window  bool    `json:"window,omitempty"`
	Missed  Missed  `json:"missed"`
	Overlap Overlap `json:"overlap"`
	Paused  bool    `json:"paused,omitempty"`
}

// Patch is what is to be different of a plan; nil stays.
type Patch struct {
	Name, Cron, TimeZone *string
	Request              *export.Request
	Window, Paused       *bool
	Missed               *Missed
	Overlap              *Overlap
}

// apply returns the plan with what is different.
func (c *Patch) apply(p Plan) Plan {
	set(&p.Name, c.Name)
	set(&p.Cron, c.Cron)
	set(&p.TimeZone, c.TimeZone)
	set(&p.Request, c.Request)
	set(&p.Window, c.Window)
	set(&p.Paused, c.Paused)
	set(&p.Missed, c.Missed)
	set(&p.Overlap, c.Overlap)
	return p
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Owner is in whose name exports are made.
type Owner struct {
	Kind    access.Kind `json:"kind"`
	Subject string      `json:"subject"`
	// Credential is the key, where the subject is one.
	Credential string `json:"credential,omitempty"`
}

// Outcome is what came of a time.
type Outcome string

// What came of a time.
const (
	Made    Outcome = "made"
	Skipped Outcome = "skipped" // the export before had not ended, or nobody was there
	Failed  Outcome = "failed"
	Waiting Outcome = "waiting" // it is tried again
)

// Fired is what came of a time.
type Fired struct {
	Time    time.Time `json:"time"` // of the timetable
	Outcome Outcome   `json:"outcome"`
	Export  export.ID `json:"export,omitempty"`
	Code    string    `json:"code,omitempty"` // of what was in the way
	Message string    `json:"message,omitempty"`
}

// EventType implements aggregate.Event: export_schedule.made, ….
func (f Fired) EventType() string { return "export_schedule." + string(f.Outcome) }

// Changed says that a schedule is there, or has another plan.
type Changed struct {
	Paused bool `json:"paused"`
}

// EventType implements aggregate.Event.
func (Changed) EventType() string { return "export_schedule.changed" }

// Schedule is one schedule.
type Schedule struct {
	aggregate.Root[ID]
	Plan    Plan      `json:"plan"`
	Owner   Owner     `json:"owner"`
	Next    time.Time `json:"next"`           // far in the future for none
	Through time.Time `json:"through"`        // where the window of the next export begins
	Last    *Fired    `json:"last,omitempty"` // that was not skipped
	Missed  int64     `json:"missed"`         // times for which no export was made
}

// Schedules keeps them.
var Schedules = repo.Kind[ID, Schedule]{
	Name: "export_schedules", Root: func(s *Schedule) *aggregate.Root[ID] { return &s.Root },
	Columns: []spec.Column[Schedule]{next},
}

var next = spec.TimeField("next", func(s *Schedule) time.Time { return s.Next })

// never is the Next of what has none.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// Set gives the schedule a plan and the owner who wants it, from now on.
func (s *Schedule) Set(p Plan, o Owner, now time.Time) error {
	p.Missed, p.Overlap = cmp.Or(p.Missed, Latest), cmp.Or(p.Overlap, Wait)
	switch {
	case !slices.Contains([]Missed{Latest, All, Skip}, p.Missed):
		return fault.New(fault.Invalid, "missed is latest, all or skip, not %q", fault.Clip(string(p.Missed), 20)).WithCode("schedule_invalid")
	case !slices.Contains([]Overlap{Wait, Along}, p.Overlap):
		return fault.New(fault.Invalid, "overlap is skip or run, not %q", fault.Clip(string(p.Overlap), 20)).WithCode("schedule_invalid")
	case !p.Request.AsOf.IsZero():
		return fault.New(fault.Invalid, "as_of of a schedule's exports is their time: leave it out").WithCode("schedule_invalid")
	case p.Window && !(p.Request.From.IsZero() && p.Request.To.IsZero()):
		return fault.New(fault.Invalid, "with window, from and to follow from the times of the exports: leave them out").WithCode("schedule_invalid")
	}
	t, err := Parse(p.Cron, p.TimeZone)
	if err != nil {
		return err
	}
	same := s.Version > 0 && s.Plan.Cron == p.Cron && s.Plan.TimeZone == p.TimeZone && s.Plan.Paused == p.Paused
	s.Plan, s.Owner = p, o
	if !same {
		s.Next, s.Through = t.Next(now), t.Last(now)
		if p.Paused {
			s.Next = never
		}
	}
	s.Record(Changed{p.Paused})
	return nil
}

// grace is how late a time may be that is not missed.
const grace = 10 * time.Minute

// counted is how many missed times are counted at once.
const counted = 1000

// due returns the time whose export is to be made now, how many before it are missed,
// and whether an export is made for it.
func (s *Schedule) due(t *Timetable, now time.Time) (at time.Time, missed int64, made bool) {
	at = s.Next
	if s.Plan.Missed == All {
		return at, 0, true
	}
	if last := t.Last(now); last.After(at) {
		for n := at; n.Before(last) && missed < counted; n = t.Next(n) {
			missed++
		}
		at = last
	}
	return at, missed, s.Plan.Missed != Skip || now.Sub(at) <= grace
}

// request is what is exported at a time.
func (s *Schedule) request(at time.Time) export.Request {
	r := s.Plan.Request
	r.AsOf = at
	if s.Plan.Window {
		r.From, r.To = s.Through, at
	}
	return r
}

// fired notes what came of a time, and goes on to the next.
func (s *Schedule) fired(t *Timetable, f Fired, missed int64) {
	s.Missed += missed
	if f.Outcome == Waiting {
		s.Next = f.Time
	} else {
		s.Next = cmp.Or(t.Next(f.Time), never)
	}
	switch f.Outcome {
	case Made:
		s.Through = f.Time
	case Skipped:
		s.Missed++
	}
	if f.Outcome != Skipped {
		s.Last = &f
	}
	s.Record(f)
}

// Upcoming returns the next times, at most so many; none where it is paused.
func (s *Schedule) Upcoming(most int) (times []time.Time) {
	t, err := Parse(s.Plan.Cron, s.Plan.TimeZone)
	if err != nil || s.Plan.Paused {
		return nil
	}
	for at := s.Next; len(times) < most && !at.IsZero() && at.Before(never); at = t.Next(at) {
		times = append(times, at)
	}
	return times
}
