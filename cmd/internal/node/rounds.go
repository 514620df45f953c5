package node

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// Rounds does something for each tenant, again and again until ctx ends, in one
// process at a time: who has the lease of that name. What fails for one tenant is
// logged, and done for the others all the same.
func (n *Node) Rounds(ctx context.Context, name repo.LeaseName, interval time.Duration, do func(ctx context.Context, tenant string) error) {
	round := func(ctx context.Context) error {
		for ctx.Err() == nil {
			for tenant, err := range n.Directory.Tenants(ctx) {
				if err != nil {
					return err
				}
				if err := do(ctx, tenant); err != nil && ctx.Err() == nil {
					n.deps.Log.WarnContext(ctx, "a tenant could not be looked after; it is tried again", "round", string(name), "tenant", tenant, "error", err)
				}
			}
			pause.For(ctx, interval)
		}
		return nil
	}
	for ctx.Err() == nil {
		lease, err := n.Store.Acquire(ctx, name, n.owner, interval)
		if err == nil {
			err = lease.Hold(ctx, interval, round)
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			n.deps.Log.WarnContext(ctx, "tenants could not be looked after; it is tried again", "round", string(name), "error", err)
		}
		pause.For(ctx, interval)
	}
}
