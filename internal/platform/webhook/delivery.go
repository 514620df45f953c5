package webhook

import (
	"encoding/json"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// DeliveryID is the id of a delivery, whd_….
type DeliveryID string

// Status is where a delivery is on its way.
type Status string

// The states. The last three are final, until somebody replays the delivery.
const (
	Pending   Status = "pending"
	Sending   Status = "sending"
	Delivered Status = "delivered"
	Failed    Status = "failed"    // the last attempt failed, too, or the endpoint is gone
	Cancelled Status = "cancelled" // the endpoint was disabled or deleted before
)

// Final says whether nothing more happens by itself.
func (s Status) Final() bool { return s == Delivered || s == Failed || s == Cancelled }

// Attempt is one attempt as the log of deliveries has it. Nothing of what the
// receiver answered is kept but the status.
type Attempt struct {
	At         time.Time `json:"at"`
	DurationMS int64     `json:"duration_ms"`
	Status     int       `json:"status,omitempty"` // of HTTP; 0 where there was no answer
	Error      Class     `json:"error,omitempty"`  // empty for success
}

// Delivery is an event on its way to an endpoint. It records no events: an
// endpoint that wants all would be told of its own deliveries for ever.
type Delivery struct {
	aggregate.Root[DeliveryID]
	Endpoint EndpointID      `json:"endpoint"`
	Event    string          `json:"event"` // its id, and the webhook-id
	Type     string          `json:"type"`
	Kind     string          `json:"kind"` // of the event's subject
	Subject  string          `json:"subject"`
	Sequence int64           `json:"sequence"`
	Body     json.RawMessage `json:"body"`

	Status  Status `json:"status"`
	Attempt int    `json:"attempt"`        // the fence of the attempt under way, or of the last
	Base    int    `json:"base,omitempty"` // attempts before the schedule began anew
	Cut     int    `json:"cut,omitempty"`  // attempts since then in whose middle our process ended
	// Next is when the next attempt may be made. Due is when somebody has to look
	// after the delivery: far in the future once it is final.
	Next        time.Time `json:"next"`
	Due         time.Time `json:"due"`
	StartedAt   time.Time `json:"started_at,omitzero"` // of the last attempt
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Keep        time.Time `json:"keep,omitzero"` // when it may be forgotten; zero while it is not final
	Attempts    []Attempt `json:"attempts,omitempty"`
}

var (
	due    = spec.TimeField("due", func(d *Delivery) time.Time { return d.Due })
	status = spec.TextField("status", func(d *Delivery) Status { return d.Status })
)

// Deliveries keeps them.
var Deliveries = repo.Kind[DeliveryID, Delivery]{
	Name: "webhook_deliveries", Root: func(d *Delivery) *aggregate.Root[DeliveryID] { return &d.Root },
	Columns: []spec.Column[Delivery]{
		spec.TextField("endpoint", func(d *Delivery) EndpointID { return d.Endpoint }),
		status,
		spec.TextField("event", func(d *Delivery) string { return d.Event }),
		spec.TextField("type", func(d *Delivery) string { return d.Type }),
		spec.TimeField("created", func(d *Delivery) time.Time { return d.CreatedAt }),
		spec.TimeField("next_attempt", func(d *Delivery) time.Time { return d.Next }),
		due, turn,
	},
	Expires: func(d *Delivery) time.Time { return d.Keep },
}

// Overdue selects what has to be looked after, the longest overdue first.
func Overdue(now time.Time, limit int) spec.Query[Delivery] {
	return spec.Query[Delivery]{Where: due.Le(now), Order: due.Asc(), Limit: limit}
}

// Open selects what is not final.
func Open() spec.Spec[Delivery] { return status.In(Pending, Sending) }

const (
	// keep is for how long a delivery can be looked up and replayed once it is
	// final: as long as the stream of events, so that no event that comes again is
	// taken for a new one.
	keep = 7 * 24 * time.Hour
	// lease is how long an attempt may take, its commit included; longer than the
	// longest timeout of package send.
	lease = 75 * time.Second
	// notice is after how long something that should have been done already is
	// announced again.
	notice = time.Minute
	// logged is how many attempts the log keeps, the latest.
	logged = 20
)

// never is the Due of what needs nobody any more.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// Errors of attempts that cannot be made, or do not count.
var (
	ErrStale = fault.New(fault.Conflict, "the attempt is not the latest any more").WithCode("stale_attempt")
	ErrBusy  = fault.New(fault.Conflict, "another process is at it").WithCode("attempt_under_way")
)

// accept begins the delivery's life.
func (d *Delivery) accept(now time.Time) {
	d.Status, d.Next, d.Due = Pending, now, now.Add(notice)
	d.CompletedAt, d.Keep = time.Time{}, time.Time{}
}

// Start begins an attempt, and counts it. There may be nothing to do: the delivery
// is final by now, or its time has not come, or every attempt was used up by
// processes that died.
func (d *Delivery) Start(now time.Time) (begun bool, err error) {
	switch {
	case d.Status.Final() || d.Status == Pending && now.Before(d.Next):
		return false, nil
	case d.Status == Sending && now.Before(d.Due):
		return false, ErrBusy
	case d.Status == Sending:
		d.log(Attempt{At: d.StartedAt, Error: Interrupted})
		d.Cut++
	}
	if d.over() {
		d.end(Failed, now)
		return false, nil
	}
	d.Attempt++
	d.Status, d.StartedAt, d.Due = Sending, now, now.Add(lease)
	return true, nil
}

// tries are the attempts of the present schedule that the receiver had: those that were
// interrupted say nothing of it, and must not have it wait for hours.
func (d *Delivery) tries() int { return d.Attempt - d.Base - d.Cut }

// over says whether no attempt is left: a process may die of one, so those are bounded too.
func (d *Delivery) over() bool { return d.tries() >= len(schedule) || d.Cut >= len(schedule) }

// Finish ends an attempt: for good, or until the next. random is within 0 and 1,
// and spreads attempts that failed together.
func (d *Delivery) Finish(fence int, r Result, now time.Time, random float64) error {
	if d.Attempt != fence || d.Status != Sending {
		return ErrStale
	}
	d.log(Attempt{At: d.StartedAt, DurationMS: r.Duration.Milliseconds(), Status: r.Status, Error: r.Class})
	if r.Class == Interrupted {
		d.Cut++
	}
	switch {
	case r.Class == None:
		d.end(Delivered, now)
	case r.Class == GoneForGood, d.over():
		d.end(Failed, now)
	default:
		d.Status = Pending
		d.wait(now, max(pause(max(d.tries(), 1), random), min(r.RetryAfter, maxRetryAfter)))
	}
	return nil
}

// Postpone has a delivery wait whose endpoint asked for it.
func (d *Delivery) Postpone(now, until time.Time) {
	if d.Status == Pending && d.Next.Before(until) {
		d.wait(now, until.Sub(now))
	}
}

// Short says whether a wait is so short that the process itself waits, and what
// is overdue is only looked after should it die.
func Short(wait time.Duration) bool { return wait <= notice }

func (d *Delivery) wait(now time.Time, wait time.Duration) {
	d.Next = now.Add(wait)
	d.Due = d.Next
	if Short(wait) {
		d.Due = d.Next.Add(notice)
	}
}

// Cancel ends a delivery whose endpoint wants it no more.
func (d *Delivery) Cancel(now time.Time) {
	if !d.Status.Final() {
		d.end(Cancelled, now)
	}
}

// Replay sends a delivery again, as if it were new but for its id: one that
// succeeded, too.
func (d *Delivery) Replay(now time.Time) error {
	if !d.Status.Final() {
		return fault.New(fault.Conflict, "the delivery is still on its way: its status is %s", d.Status).WithCode("delivery_pending")
	}
	d.Base, d.Cut = d.Attempt, 0
	d.accept(now)
	return nil
}

// Remind sets when the delivery is due for the next time, if it still is now. What
// waits for long, since there is much for its endpoint, is reminded of less often.
func (d *Delivery) Remind(now time.Time) (overdue bool) {
	if d.Status.Final() || now.Before(d.Due) {
		return false
	}
	if d.Status == Pending { // who finds a dead process's takes it over
		d.Due = now.Add(min(max(notice, now.Sub(d.Next)), 10*notice))
	}
	return true
}

func (d *Delivery) end(s Status, now time.Time) {
	d.Status, d.CompletedAt, d.Due, d.Keep = s, now, never, now.Add(keep)
}

func (d *Delivery) log(a Attempt) {
	d.Attempts = append(d.Attempts, a)
	d.Attempts = d.Attempts[max(len(d.Attempts)-logged, 0):]
}
