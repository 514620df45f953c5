package models

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/inference/registry/cache"
	"sluice/internal/inference/registry/follow"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
)

// Follow returns the part of a program that has the models serve what the registry
// says is ready. Start it before the models, and call Follow before the store is
// used.
func (m *Models) Follow(cfg config.Config, n *node.Node, metrics prometheus.Registerer, log *slog.Logger) (lifecycle.Component, error) {
	files, err := cache.Open(filepath.Join(cfg.DataDir, "model-files"), int64(cfg.Registry.Cache), log)
	if err != nil {
		return lifecycle.Component{}, err
	}
	f, err := follow.New(n.Store, n.Queue, n.Blobs, files, m.Server, follow.Config{Verify: m.Verify(), Log: log, Metrics: metrics})
	return lifecycle.Component{Name: "model versions", Run: f.Run, Stop: func(context.Context) error { return files.Close() }, Start: func(ctx context.Context) error {
		if err := f.Refresh(ctx); err != nil && ctx.Err() == nil { // the others serve, and it is tried again
			log.ErrorContext(ctx, "not every version of the model registry is served", "error", err)
		}
		return ctx.Err()
	}}, err
}

// demanded is the memory that versions which are loaded on demand may take.
func demanded(limit config.Size) int64 {
	if limit == 0 {
		return debug.SetMemoryLimit(-1) / 2
	}
	return int64(limit)
}
