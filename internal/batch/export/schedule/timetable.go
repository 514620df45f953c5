package schedule

import (
	"strings"
	"time"

	"github.com/netresearch/go-cron"

	"sluice/internal/platform/fault"
)

// Timetable is when something happens: the times of a cron expression, on the clocks
// of a zone. Each time on a clock counts once. One that the clocks skip, as they do
// where summer time begins, is the moment at which they go on; one that they show
// twice is the first of the two. It is immutable, and safe for concurrent use.
type Timetable struct {
	spec *cron.SpecSchedule
	zone *time.Location
}

// Five fields: minute, hour, day of month, month, day of week; a day matches where one
// of the two does, if both are given (POSIX, crontab). Besides, @hourly and the like.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)

// maxExpression is how many bytes an expression may have.
const maxExpression = 200

// Parse returns the timetable of an expression in a zone of the IANA database; an
// empty one is UTC. What cannot be understood, or never comes, is fault.Invalid.
func Parse(expression, zone string) (*Timetable, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return nil, fault.New(fault.Invalid, "there is no time zone %q: use a name such as Europe/Berlin, or leave it out for UTC", fault.Clip(zone, 80)).WithCode("time_zone_unknown")
	}
	expression = strings.TrimSpace(expression)
	invalid := func(why string) error {
		return fault.New(fault.Invalid, "%q is no schedule: %s; give minute, hour, day of month, month and day of week, such as 0 6 * * 1-5, or @daily", fault.Clip(expression, 80), fault.Clip(why, 200)).WithCode("cron_invalid")
	}
	if len(expression) > maxExpression || strings.Contains(expression, "TZ=") {
		return nil, invalid("it is too long, or names a time zone, which has a field of its own")
	}
	parsed, err := parser.Parse(expression)
	if err != nil {
		return nil, invalid(err.Error())
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, invalid("it has no times of day")
	}
	t := &Timetable{spec, loc}
	t.spec.Location = time.UTC // clocks without a zone: see instant
	if t.spec.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, invalid("there is no such day")
	}
	return t, nil
}

// clock is what the clocks of the zone show at a time, as a time of UTC.
func (t *Timetable) clock(at time.Time) time.Time {
	_, offset := at.In(t.zone).Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// instant is the first moment at which the clocks show at least this.
func (t *Timetable) instant(clock time.Time) time.Time {
	at := time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, t.zone)
	begin, end := at.ZoneBounds()
	switch shown := t.clock(at); {
	case shown.After(clock): // skipped, and this is behind
		return begin.UTC()
	case shown.Before(clock): // skipped, and this is before
		return end.UTC()
	}
	if !begin.IsZero() {
		_, offset := begin.Add(-time.Nanosecond).Zone()
		first := clock.Add(-time.Duration(offset) * time.Second)
		if first.Before(begin) && t.clock(first).Equal(clock) {
			return first
		}
	}
	return at.UTC()
}

// back is by how much clocks are put back at most, but for the dates of islands.
const back = 3 * time.Hour

// Next returns the first time after another; zero where there is none for years.
func (t *Timetable) Next(after time.Time) time.Time {
	for clock := t.spec.Next(t.clock(after).Add(-back)); !clock.IsZero(); clock = t.spec.Next(clock) {
		if at := t.instant(clock); at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// Last returns the latest time until another, that one included; zero where there was
// none for years.
func (t *Timetable) Last(until time.Time) time.Time {
	clock := t.spec.Prev(t.clock(until).Add(time.Second))
	if clock.IsZero() {
		return clock
	}
	last := t.instant(clock)
	for next := t.Next(last); !next.IsZero() && !next.After(until); next = t.Next(last) {
		last = next
	}
	return last
}
