package oip

import (
	"context"
	"net/http"

	"sluice/internal/inference/experiment"
	"sluice/internal/platform/telemetry"
)

// HeaderArm is the header, and in lower case the metadata of gRPC, that says which
// arm of an experiment or release has answered.
const HeaderArm = "Experiment-Arm"

// HeaderFallback is the header, and in lower case the metadata of gRPC, that says
// which version refused the request for load, where another has answered it.
const HeaderFallback = "Sluice-Fallback"

// Value returns what experiments look at of a request with these headers.
func Value(ctx context.Context, h http.Header, from experiment.Source, name string) string {
	first := func(name string) string {
		if values := h[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	switch from {
	case experiment.Header:
		return first(name)
	case experiment.Attribute:
		return experiment.AttributeOf(first(experiment.HeaderAttributes), name)
	case experiment.RequestID:
		return telemetry.RequestID(ctx)
	}
	return ""
}

// Value implements serve.Asking.
func (c *inferCall) Value(ctx context.Context, from experiment.Source, name string) string {
	return Value(ctx, c.header, from, name)
}
