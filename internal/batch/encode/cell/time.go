package cell

import (
	"time"

	"sluice/internal/platform/fault"
)

// Clock tells instants in a time zone. It remembers the zone's last offset, so
// it is for one goroutine.
type Clock struct {
	zone     *time.Location
	offset   int64 // seconds east of UTC, right from from until before to
	from, to int64 // seconds since 1970 UTC
}

// NewClock returns a clock of a zone; nil is UTC.
func NewClock(zone *time.Location) *Clock {
	if zone == nil {
		zone = time.UTC
	}
	return &Clock{zone: zone}
}

const (
	second = 1e6 // in microseconds
	day    = 86400

	// Years that RFC 3339 can say: 0000 to 9999.
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// Local returns the microseconds since 1970 that the zone's clocks show at an
// instant, and the zone's offset in seconds. An instant at the ends of what an
// int64 can say may wrap around, far outside the years that can be written.
func (c *Clock) Local(micros int64) (local, offset int64) {
	s := floorDiv(micros, second)
	if s < c.from || s >= c.to {
		c.turn(s)
	}
	return micros + c.offset*second, c.offset
}

// turn looks the offset at an instant up, and how long it holds.
func (c *Clock) turn(s int64) {
	t := time.Unix(s, 0).In(c.zone)
	_, offset := t.Zone()
	// RFC 3339 has no seconds in offsets, which local mean times before 1900 have:
	// the clock is then off by less than a minute, the instant it tells is not.
	c.offset = int64(offset - offset%60)
	start, end := t.ZoneBounds()
	c.from, c.to = floorDiv(s, day)*day, floorDiv(s, day)*day+day
	if !start.IsZero() {
		c.from = max(c.from, start.Unix())
	}
	if !end.IsZero() {
		c.to = min(c.to, end.Unix())
	}
}

// AppendTime appends an instant as RFC 3339 with six decimals, always as wide:
// readers that guess a column's format from its first cell read all the others.
// It reports false, and appends nothing, outside the years 0000 to 9999.
func (c *Clock) AppendTime(dst []byte, micros int64) ([]byte, bool) {
	if s := floorDiv(micros, second); s < firstSecond+day || s > lastSecond-day {
		return dst, false
	}
	local, offset := c.Local(micros)
	days := floorDiv(local, day*second)
	rest := local - days*day*second
	y, m, d := civil(days)
	dst = append(dst, "0000-00-00T00:00:00.000000"...)
	b := dst[len(dst)-26:]
	two(b[0:], y/100)
	two(b[2:], y%100)
	two(b[5:], m)
	two(b[8:], d)
	us := rest % second
	sod := rest / second
	two(b[11:], sod/3600)
	two(b[14:], sod/60%60)
	two(b[17:], sod%60)
	two(b[20:], us/10000)
	two(b[22:], us/100%100)
	two(b[24:], us%100)
	if offset == 0 {
		return append(dst, 'Z'), true
	}
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = append(dst, sign, '0', '0', ':', '0', '0')
	b = dst[len(dst)-5:]
	two(b, offset/3600)
	two(b[3:], offset/60%60)
	return dst, true
}

// ErrTime says that an instant cannot be written: see AppendTime.
func ErrTime(micros int64) error {
	return fault.New(fault.Unprocessable, "the time %d µs after 1970 is outside the years 0000 to 9999, which are all that RFC 3339 can say: "+
		"leave its column out, or choose Parquet", micros).WithCode("time_out_of_range")
}

func two(b []byte, n int64) {
	b[0] += byte(n / 10)
	b[1] += byte(n % 10)
}

// civil returns the proleptic Gregorian date of a day since 1970-01-01, for
// years from 0 on: days are counted from 1 March 0000 in eras of 400 years.
func civil(days int64) (y, m, d int64) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	y = yoe + era*400
	if m > 12 {
		m, y = m-12, y+1
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
