// Package records is a process's part in the prediction log: what it notes of the
// predictions that it makes, and where that is kept.
package records

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/chrecord"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/telemetry"
)

// Records is the log as a part of a program. Nil, or the zero value, keeps none.
type Records struct {
	Store record.Store // nil where no log is kept

	log  *record.Log
	cfg  config.Record
	slog *slog.Logger
}

// Open opens the log that the configuration names. The keys of tenants, which texts are
// hashed with, are made of pseudonym. Close it where its component
// never runs.
func Open(ctx context.Context, cfg config.Config, pseudonym []byte, log *slog.Logger, metrics prometheus.Registerer, health *telemetry.Health) (*Records, error) {
	r := &Records{cfg: cfg.Record, slog: log}
	if r.cfg.URL == "none" {
		return r, nil
	}
	store, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.Store = store
	if r.log, err = record.NewLog(store, record.LogConfig{Buffer: r.cfg.Buffer, Metrics: metrics, Log: log, Key: keys(pseudonym)}); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return r, nil
}

// keys returns the keys of tenants.
func keys(pseudonym []byte) func(tenant string) []byte {
	return func(tenant string) []byte {
		mac := hmac.New(sha256.New, pseudonym)
		mac.Write([]byte("prediction log of " + tenant))
		return mac.Sum(nil)
	}
}

func openStore(ctx context.Context, cfg config.Config) (record.Store, error) {
	address := cfg.Record.URL
	if address == "" {
		address = "sqlite:" + filepath.Join(cfg.DataDir, "predictions.db")
	}
	if !strings.HasPrefix(address, "sqlite:") {
		return chrecord.Open(ctx, address, chrecord.Config{Keep: cfg.Record.Keep, KeepStatistics: cfg.Record.KeepStatistics})
	}
	return sqliterecord.Open(ctx, address, sqliterecord.Config{MaxSize: int64(cfg.Record.MaxSize)})
}

// Shared returns a log unless each of several processes has its own: what one of them reads
// would lack what the others have noted.
func Shared(cfg config.Config, log record.Store) record.Store {
	if len(cfg.NATS.URL) > 0 && !strings.HasPrefix(cfg.Record.URL, "clickhouse:") && !strings.HasPrefix(cfg.Record.URL, "http") {
		return nil
	}
	return log
}

// Recorder returns what takes note of predictions; nil where no log is kept.
func (r *Records) Recorder() serve.Recorder {
	if r == nil || r.log == nil {
		return nil
	}
	return r.log
}

// Sync appends what was noted until now.
func (r *Records) Sync(ctx context.Context) error {
	if r == nil || r.log == nil {
		return nil
	}
	return r.log.Sync(ctx)
}

// Close gives the store back.
func (r *Records) Close() error {
	if r == nil || r.Store == nil {
		return nil
	}
	return r.Store.Close()
}

// Component writes what is noted, and forgets what is old. It ends after those who
// predict.
func (r *Records) Component() lifecycle.Component {
	c := lifecycle.Component{Name: "prediction log"}
	if r.log != nil {
		c.Run, c.Stop = r.run, r.stop
	}
	return c
}

func (r *Records) run(ctx context.Context) error {
	expired := make(chan struct{})
	go func() {
		defer close(expired)
		r.expire(ctx)
	}()
	err := r.log.Run(ctx)
	<-expired
	return err
}

func (r *Records) stop(ctx context.Context) error {
	return errors.Join(r.log.End(ctx), r.Close())
}

// expireInterval is how often what is old is looked for.
const expireInterval = 10 * time.Minute

// expire forgets what is old until ctx ends.
func (r *Records) expire(ctx context.Context) {
	for pause.For(ctx, expireInterval) {
		now := time.Now()
		if err := r.Store.Expire(ctx, now.Add(-r.cfg.Keep), now.Add(-r.cfg.KeepStatistics)); err != nil && ctx.Err() == nil {
			r.slog.WarnContext(ctx, "old entries of the prediction log could not be removed", "error", err)
		}
	}
}
