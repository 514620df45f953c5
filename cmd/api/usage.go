package main

import (
	"context"
	"time"

	"sluice/internal/inference/serve"
	metering "sluice/internal/inference/usage"
	"sluice/internal/platform/access"
	"sluice/internal/platform/lifecycle"
)

// counted has a meter count what online requests take, for whoever sent them.
func counted(m *metering.Meter) func(context.Context, *serve.Version, time.Time, serve.Use) {
	return func(ctx context.Context, v *serve.Version, at time.Time, u serve.Use) {
		p, known := access.From(ctx)
		if !known {
			return
		}
		m.Count(p.Tenant, at, metering.Entry{
			What: metering.What{Model: v.Name, Version: v.Text, Mode: metering.Online},
			Amount: metering.Amount{Requests: 1, Succeeded: 1, Rows: int64(u.Rows), ComputeUS: u.Compute.Microseconds(),
				InputBytes: u.InputBytes, OutputBytes: u.OutputBytes},
		})
	}
}

// meterComponent writes what was counted; it ends after those who count.
func meterComponent(m *metering.Meter) lifecycle.Component {
	return lifecycle.Component{Name: "usage meter", Run: m.Run, Stop: m.Flush}
}
