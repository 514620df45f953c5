package main

import "sluice/loadtest/crash/overlay"

// haste shortens what the platform waits for when a process has died, so that a
// minute has as many takeovers as half an hour has else.
var haste = []edit{
	{"internal/inference/job/commands.go", "c.Lease = 30 * time.Second", "c.Lease = 3 * time.Second"},
	{"internal/inference/job/commands.go", "c.Notice = time.Minute", "c.Notice = 4 * time.Second"},
	{"cmd/internal/jobs/jobs.go", "reconcileInterval = 10 * time.Second", "reconcileInterval = time.Second"},
	{platform + "queue/consumer.go", "cmp.Or(c.Lease, 30*time.Second)", "cmp.Or(c.Lease, 3*time.Second)"},
	{platform + "relay/relay.go", "c.Lease = 10 * time.Second", "c.Lease = 2 * time.Second"},
	{platform + "audit/trail/trail.go", "cfg.Lease = 10 * time.Second", "cfg.Lease = 2 * time.Second"},
	{platform + "web/idempotency/once.go", "cfg.Lease = 45 * time.Second", "cfg.Lease = 4 * time.Second"},
	{platform + "webhook/delivery.go", "lease = 75 * time.Second", "lease = 6 * time.Second"},
	{platform + "webhook/delivery.go", "notice = time.Minute", "notice = 4 * time.Second"},
	{platform + "webhook/result.go", "5 * time.Second, 5 * time.Minute,", "5 * time.Second, 5 * time.Second,"},
	{platform + "webhook/deliver/reconcile.go", "leaseTime = 30 * time.Second", "leaseTime = 2 * time.Second"},
	{platform + "webhook/deliver/deliver.go", "c.Reconcile, 5*time.Second", "c.Reconcile, time.Second"},
}

// hurtful returns changes of programs, after which these die at points and have
// short leases.
func hurtful(changes *overlay.Overlay) (o *overlay.Overlay, err error) {
	if changes != nil {
		o = changes.Clone()
	} else if o, err = overlay.New("."); err != nil {
		return nil, err
	}
	for _, e := range haste {
		if err := o.Replace(e.file, e.from, e.to); err != nil {
			return nil, err
		}
	}
	return o, addPoints(o)
}
