package main

import (
	"context"
	"fmt"

	"sluice/loadtest/crash/overlay"
)

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
	{"internal/batch/run/run.go", "c.ChunkRows = 16384", "c.ChunkRows = 4096"},
	{"internal/batch/job/ledger.go", "cmp.Or(t.Notice, 30*time.Second)", "cmp.Or(t.Notice, 2*time.Second)"},
	{"internal/batch/export/export.go", "lease      = 30 * time.Second", "lease      = 2 * time.Second"},
	{"internal/batch/export/export.go", "notice     = time.Minute", "notice     = 2 * time.Second"},
	{"cmd/internal/batches/batches.go", "const interval = 5 * time.Second", "const interval = time.Second"},
	{"cmd/internal/exports/exports.go", "const interval = 5 * time.Second", "const interval = time.Second"},
	{"cmd/internal/node/engines.go", "sweepInterval = time.Minute", "sweepInterval = 2 * time.Second"},
	{"cmd/internal/node/engines.go", "round%60 == 0", "round >= 0"},
	{"cmd/internal/node/engines.go", "const orphanAge = 24 * time.Hour", "var orphanAge = crashOrphanAge()"},
	{platform + "webhook/deliver/deliver.go", "c.Reconcile, 5*time.Second", "c.Reconcile, time.Second"},
}

// orphanVariable says how old an object is that the sweep removes. What is frozen
// between an object and what names it must not be that old.
const orphanVariable = "CRASH_ORPHAN_AGE"

const orphanSource = `package node

import (
	"os"
	"time"
)

func crashOrphanAge() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(%q)); err == nil {
		return d
	}
	return 24 * time.Hour
}
`

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
	o.Add("cmd/internal/node/crash_orphans.go", fmt.Sprintf(orphanSource, orphanVariable))
	return o, addPoints(o)
}

// hurtPrograms builds the programs with those changes, once, and returns the folder
// that they are in.
func (s *settings) hurtPrograms(ctx context.Context) (bin string, err error) {
	if s.hurt != "" {
		return s.hurt, nil
	}
	changes, err := hurtful(s.changes)
	if err == nil {
		s.hurt, err = s.build(ctx, changes, "./cmd/api", "./cmd/worker", "./loadtest/jobcheck", natsModule)
	}
	return s.hurt, err
}
