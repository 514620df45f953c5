package scenario

import (
	"math"
	"time"

	"sluice/loadtest/load"
)

// Figure is what became of the requests that were due in a span of time. Times are in milliseconds. Percentiles
// leave out refusals, and count what failed or was not sent as later than every answer. One that lies among those
// is given as the greatest time measured, and named in AtLeast.
type Figure struct {
	Name      string   `json:"name,omitempty"`
	Length    float64  `json:"seconds"`
	Due       int      `json:"due"`
	OK        int      `json:"ok"`
	Good      int      `json:"good"`
	Refused   int      `json:"refused"`
	Failed    int      `json:"failed"`
	Unsent    int      `json:"unsent"`
	P50       float64  `json:"p50_ms"`
	P90       float64  `json:"p90_ms"`
	P99       float64  `json:"p99_ms"`
	P999      float64  `json:"p999_ms"`
	Max       float64  `json:"max_ms"`
	AtLeast   []string `json:"at_least,omitempty"` // names of the percentiles that may be any more
	FirstP99  float64  `json:"first_event_p99_ms,omitempty"`
	RefusalMS float64  `json:"refusal_p99_ms,omitempty"`
	QueuedP99 float64  `json:"queued_p99_ms,omitempty"` // as the server says, as the next two
	ServedP50 float64  `json:"served_p50_ms,omitempty"`
	ServedP99 float64  `json:"served_p99_ms,omitempty"`
	Buckets   []Bucket `json:"latency_buckets,omitempty"` // of phases

	// Spreads, for phases that are long enough.
	GoodSpread Spread `json:"good_per_second_spread,omitzero"`
	P50Spread  Spread `json:"p50_ms_spread,omitzero"`
	P99Spread  Spread `json:"p99_ms_spread,omitzero"`
}

// Bucket counts the answers that took at most so long, and longer than those of the bucket before.
type Bucket struct {
	Most  float64 `json:"at_most_ms"`
	Count uint64  `json:"count"`
}

func figure(name string, length time.Duration, c *Cell) Figure {
	f := Figure{Name: name, Length: length.Seconds(), Due: c.Due, OK: c.OK, Good: c.Good, Refused: c.Refused, Failed: c.Failed, Unsent: c.Unsent,
		RefusalMS: micros(c.Refusal.Quantile(.99)), QueuedP99: micros(c.Queued.Quantile(.99)), ServedP50: micros(c.Served.Quantile(.5)), ServedP99: micros(c.Served.Quantile(.99))}
	for _, p := range []struct {
		name string
		h    *load.Histogram
		q    float64
		ms   *float64
	}{{"p50_ms", &c.Latency, .5, &f.P50}, {"p90_ms", &c.Latency, .9, &f.P90}, {"p99_ms", &c.Latency, .99, &f.P99}, {"p999_ms", &c.Latency, .999, &f.P999},
		{"max_ms", &c.Latency, 1, &f.Max}, {"first_event_p99_ms", &c.First, .99, &f.FirstP99}} {
		at, beyond := p.h.Beside(c.lost(), p.q)
		if *p.ms = micros(at); beyond && at > 0 {
			f.AtLeast = append(f.AtLeast, p.name)
		}
	}
	return f
}

// micros is a time in milliseconds, to the microsecond.
func micros(d time.Duration) float64 { return math.Round(1000*millis(d)) / 1000 }

func buckets(h *load.Histogram) (list []Bucket) {
	for most, count := range h.Buckets() {
		list = append(list, Bucket{micros(most), count})
	}
	return list
}
