package rollouthttp

import "sluice/internal/inference/evidence"

// Policy is what a step has to show, see evidence.Policy; its guardrails have names
// of their own in the document.
type Policy struct {
	Alpha       float64           `json:"alpha" doc:"The greatest chance that a guardrail says something wrong, in any of all looks."`
	MinRequests int64             `json:"min_requests" doc:"What each arm needs before anything passes."`
	ErrorRate   *ErrorRateLimit   `json:"error_rate,omitempty"`
	Latency     *LatencyLimit     `json:"latency,omitempty"`
	Quality     *QualityLimit     `json:"quality,omitempty"`
	Agreement   *AgreementLimit   `json:"agreement,omitempty"`
	SampleRatio *SampleRatioLimit `json:"sample_ratio,omitempty"`
	Drift       *DriftLimit       `json:"drift,omitempty"`
	Replay      *ReplayLimit      `json:"replay,omitempty" readOnly:"true"`
}

// ErrorRateLimit limits the share of failed requests.
type ErrorRateLimit evidence.ErrorRate

// LatencyLimit limits a quantile of the latencies.
type LatencyLimit evidence.Latency

// QualityLimit limits the mean of the labels' scores.
type QualityLimit evidence.Quality

// AgreementLimit limits the share of answers that are not the champion's.
type AgreementLimit evidence.Agreement

// SampleRatioLimit limits how units are divided.
type SampleRatioLimit evidence.SampleRatio

// DriftLimit limits how far answers are from a reference's.
type DriftLimit evidence.Drift

func (p Policy) evidence() evidence.Policy {
	return evidence.Policy{Alpha: p.Alpha, MinRequests: p.MinRequests, ErrorRate: (*evidence.ErrorRate)(p.ErrorRate), Latency: (*evidence.Latency)(p.Latency),
		Quality: (*evidence.Quality)(p.Quality), Agreement: (*evidence.Agreement)(p.Agreement), SampleRatio: (*evidence.SampleRatio)(p.SampleRatio), Drift: (*evidence.Drift)(p.Drift), Replay: (*evidence.Replay)(p.Replay)}
}

func policyView(p evidence.Policy) Policy {
	return Policy{Alpha: p.Alpha, MinRequests: p.MinRequests, ErrorRate: (*ErrorRateLimit)(p.ErrorRate), Latency: (*LatencyLimit)(p.Latency),
		Quality: (*QualityLimit)(p.Quality), Agreement: (*AgreementLimit)(p.Agreement), SampleRatio: (*SampleRatioLimit)(p.SampleRatio), Drift: (*DriftLimit)(p.Drift), Replay: (*ReplayLimit)(p.Replay)}
}
