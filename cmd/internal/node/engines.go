package node

import (
	"context"
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
			if _, err := blob.Sweep(ctx, n.Blobs, "", time.Now().Add(-staleUpload)); err != nil && ctx.Err() == nil {
				n.deps.Log.WarnContext(ctx, "stale uploads could not be removed", "error", err)
			}
		}
	}
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
