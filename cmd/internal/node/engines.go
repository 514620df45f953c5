package node

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/fsblob"
	"sluice/internal/platform/blob/s3blob"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/natsqueue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/scyllarepo"
	"sluice/internal/platform/repo/sqliterepo"
)

func (n *Node) openStore(ctx context.Context) error {
	address := n.cfg.Database.URL
	if address == "" {
		address = "sqlite:" + filepath.Join(n.cfg.DataDir, "sluice.db")
	}
	var (
		driver repo.Driver
		err    error
	)
	if strings.HasPrefix(address, "scylla:") {
		driver, err = scyllarepo.Open(ctx, address, scyllarepo.Config{Logger: n.deps.Log, Metrics: n.deps.Metrics})
	} else {
		driver, err = sqliterepo.Open(ctx, address, sqliterepo.Config{Metrics: n.deps.Metrics})
	}
	if err != nil {
		return err
	}
	return n.useStore(driver)
}

func (n *Node) openQueue(ctx context.Context) error {
	c := n.cfg.NATS
	metrics, err := queue.NewMetrics(n.deps.Metrics)
	if err != nil {
		return err
	}
	settings := natsqueue.Config{URLs: c.URL, Replicas: c.Replicas, TLS: natsqueue.TLS{CA: c.CA, Cert: c.Cert, Key: c.Key},
		Login:   natsqueue.Login{Credentials: c.Credentials, NKeySeed: c.NKey, User: c.User, Password: c.Password, Token: c.Token},
		Metrics: metrics, Log: n.deps.Log}
	if len(c.URL) == 0 {
		if err := n.reserve("nats"); err != nil {
			return err
		}
		if n.alone = n.cfg.Database.URL == ""; n.alone {
			n.owner = "alone"
		}
		server, err := natsqueue.Start(ctx, filepath.Join(n.cfg.DataDir, "nats"), natsqueue.ServerConfig{Sync: c.Sync, MaxStore: int64(c.MaxStore), Log: n.deps.Log})
		if err != nil {
			return err
		}
		n.closers = append(n.closers, server.Stop)
		settings.Server = server
	}
	q, err := natsqueue.Open(settings)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, func(context.Context) error { q.Close(); return nil })
	n.created = q.Created
	n.useQueue(q)
	return nil
}

func (n *Node) openBlobs(ctx context.Context) error {
	address := n.cfg.Blob.URL
	if address == "" {
		address = "file:" + filepath.Join(n.cfg.DataDir, "blobs")
	}
	if strings.HasPrefix(address, "s3:") {
		return n.openS3(ctx, address)
	}
	dir, err := fsblob.Dir(address)
	if err != nil {
		return err
	}
	b, err := fsblob.Open(dir, fsblob.Config{})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, func(context.Context) error { return b.Close() })
	n.deps.Health.AddCheck("objects", b.Check)
	n.Blobs, err = blob.Observed(b, "file", n.deps.Metrics)
	return err
}

func (n *Node) openS3(ctx context.Context, address string) error {
	c, err := s3blob.Parse(address)
	if err != nil {
		return err
	}
	b, err := s3blob.Open(ctx, c)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, func(context.Context) error { b.Close(); return nil })
	n.deps.Health.AddCheck("objects", b.Check)
	n.Blobs, err = blob.Observed(b, "s3", n.deps.Metrics)
	return err
}

// How often what has ended is removed, and how much at a time.
const (
	sweepInterval = time.Minute
	sweepBatch    = 1000
)

// staleUpload is how old an upload is that nobody will finish.
const staleUpload = 48 * time.Hour

// sweep removes what has ended until ctx does.
func (n *Node) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		n.purgeAll(ctx)
		if round%60 == 0 {
			if err := n.sweepObjects(ctx); err != nil && ctx.Err() == nil {
				n.deps.Log.WarnContext(ctx, "objects that nothing needs could not be removed", "error", err)
			}
		}
	}
}

// orphanAge is how old an object is that is removed because nothing owns it: no
// command takes so long between writing one and naming it.
const orphanAge = 24 * time.Hour

// sweepObjects removes stale uploads, and objects that nothing owns, of all
// tenants, those among them that are gone. What fails in one folder is done in the
// others all the same. One process at a time does it.
func (n *Node) sweepObjects(ctx context.Context) error {
	lease, err := n.Store.Acquire(ctx, "objects-sweep", n.owner, sweepInterval)
	if errors.Is(err, repo.ErrLeased) {
		return nil
	}
	if err != nil {
		return err
	}
	return lease.Hold(ctx, sweepInterval, func(ctx context.Context) error {
		_, err := blob.Sweep(ctx, n.Blobs, "", time.Now().Add(-staleUpload))
		errs := []error{err}
		for tenant, err := range blob.Roots(ctx, n.Blobs) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, o := range n.deps.Objects {
				errs = append(errs, n.sweepOrphans(ctx, tenant, o))
			}
		}
		return errors.Join(errs...)
	})
}

func (n *Node) sweepOrphans(ctx context.Context, tenant string, o Objects) error {
	removed, err := blob.SweepOrphans(ctx, n.Blobs, tenant+"/"+o.Folder, n.Store.Now().Add(-orphanAge), func(ctx context.Context, key string) (bool, error) {
		return o.Owned(ctx, n.Store, tenant, key)
	})
	if removed > 0 {
		n.deps.Log.InfoContext(ctx, "objects that nothing owned were removed", "tenant", tenant, "folder", o.Folder, "objects", removed)
	}
	return err
}

// purgeAll removes from the store what has ended.
func (n *Node) purgeAll(ctx context.Context) {
	for _, kind := range n.expiring() {
		if err := n.purge(ctx, kind); err != nil && ctx.Err() == nil {
			n.deps.Log.WarnContext(ctx, "what has expired could not be removed from the store", "kind", kind, "error", err)
		}
	}
}

func (n *Node) purge(ctx context.Context, kind string) error {
	for {
		removed, err := n.Store.Driver().Purge(ctx, kind, n.Store.Now(), sweepBatch)
		if err != nil || removed < sweepBatch {
			return err
		}
	}
}
