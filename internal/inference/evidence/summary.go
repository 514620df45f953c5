package evidence

import (
	"math"
	"slices"
	"time"

	"sluice/internal/inference/evidence/sequential"
)

// Estimate is a number with what it is within; nil where nothing is known.
type Estimate struct {
	Value    *float64            `json:"value"`
	Interval sequential.Interval `json:"interval"`
}

// Percentile is a quantile of the latencies and what it is within; nil is no bound.
type Percentile struct {
	Quantile float64        `json:"quantile"`
	Value    time.Duration  `json:"value_ns"`
	Low      time.Duration  `json:"low_ns"`
	High     *time.Duration `json:"high_ns"`
}

// Summary is what is known of one arm, for people. Each interval is a
// confidence sequence of its own, so it may be watched all the time; comparing
// arms is up to Judge.
type Summary struct {
	Requests  int64        `json:"requests"`
	ErrorRate Estimate     `json:"error_rate"`
	Latency   []Percentile `json:"latency"`
	Labels    int64        `json:"labels"`
	Quality   Estimate     `json:"quality"`
}

// percentiles are those that a Summary has.
var percentiles = []float64{0.5, 0.9, 0.99}

// Summary returns what the numbers say, each with a chance of alpha of being
// wrong at some time.
func (n Numbers) Summary(alpha float64) Summary {
	s := Summary{
		Requests:  n.Requests.N,
		ErrorRate: estimate(n.Requests.Rate(), sequential.Proportion(n.Requests, alpha)),
		Labels:    n.Quality.N,
		Quality:   Estimate{Interval: sequential.Everything},
	}
	if n.Quality.N > 0 {
		s.Quality.Value = &n.Quality.Mean
	}
	if n.Quality.N >= MinLabels {
		s.Quality.Interval = sequential.Mean(n.Quality, alpha, tunedLabels*MinLabels)
	}
	if n.Latency.Count() == 0 {
		return s
	}
	for _, q := range percentiles {
		low, high := quantile(n.Latency, q, alpha)
		p := Percentile{Quantile: q, Value: n.Latency.Quantile(q), Low: low}
		if high < math.MaxInt64 {
			p.High = &high
		}
		s.Latency = append(s.Latency, p)
	}
	return s
}

// Bare returns the same with intervals that say nothing, for numbers of several times that
// arms had different shares of.
func (s Summary) Bare() Summary {
	s.ErrorRate.Interval, s.Quality.Interval = sequential.Everything, sequential.Everything
	s.Latency = slices.Clone(s.Latency)
	for i := range s.Latency {
		s.Latency[i].Low, s.Latency[i].High = 0, nil
	}
	return s
}

func estimate(x float64, i sequential.Interval) Estimate {
	if math.IsNaN(x) {
		return Estimate{Interval: i}
	}
	return Estimate{&x, i}
}
