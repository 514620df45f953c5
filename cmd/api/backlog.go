package main

import (
	"sluice/internal/inference/job"
	"sluice/internal/platform/lifecycle"
)

// newBacklog returns what refuses durable predictions where too many wait.
func newBacklog(a *app) (*job.Backlog, error) {
	c := a.cfg.Job
	return job.NewBacklog(a.node.Store, a.node.Directory.Tenants, job.BacklogConfig{
		Limits:  job.Limits{Queued: c.MaxQueued, TenantQueued: c.MaxQueuedPerTenant, Wait: c.MaxWait},
		Metrics: a.registry, Log: a.log,
	})
}

func backlogComponent(b *job.Backlog) lifecycle.Component {
	return lifecycle.Component{Name: "backlog", Run: b.Run}
}
