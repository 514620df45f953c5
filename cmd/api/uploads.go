package main

import (
	"context"
	"errors"
	"io"
	"time"

	"sluice/cmd/internal/node"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/upload"
)

// needUploads adds to a node what uploads need of it.
func needUploads(d node.Deps) node.Deps {
	d.Permissions = append(d.Permissions, upload.Permissions()...)
	d.Schemas = append(d.Schemas, upload.Uploads.Schema())
	d.Expiring = append(d.Expiring, upload.Uploads.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: upload.Folder, Owned: upload.Owned})
	return d
}

func newUploads(a *app, memory *budget.Budget) (*upload.Service, error) {
	c := a.cfg.Upload
	return upload.New(a.node.Store, a.node.Bus, a.node.Blobs, upload.Config{
		MaxSize: int64(c.MaxSize), MaxAppend: int64(a.cfg.HTTP.MaxBody), Quota: int64(c.Quota), MaxUploads: c.MaxUploads,
		Expiry: c.Expiry, Keep: c.Keep, AddressKey: a.node.AddressKey(), Memory: memory, Log: a.log, Metrics: a.registry,
	})
}

// uploaded opens the content of an upload, for predictions.
func (a *app) uploaded(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	u, open, err := a.uploads.Content(ctx, upload.ID(id))
	if err != nil {
		return nil, 0, err
	}
	content, err := open(ctx, 0, 0)
	return content, u.Offset, err
}

// uploadInterval is how often uploads whose time is over are looked for.
const uploadInterval = time.Minute

// uploadComponent expires uploads, in one process at a time.
func uploadComponent(a *app) lifecycle.Component {
	return lifecycle.Component{Name: "uploads", Run: func(ctx context.Context) error {
		for ctx.Err() == nil {
			pause.For(ctx, uploadInterval)
			lease, err := a.node.Store.Acquire(ctx, "uploads-sweep", a.node.Owner(), uploadInterval)
			if err == nil {
				err = lease.Hold(ctx, uploadInterval, a.sweepUploads)
			}
			if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
				a.log.WarnContext(ctx, "uploads could not be expired", "error", err)
			}
		}
		return nil
	}}
}

// sweepUploads ends the uploads of all tenants whose time is over. One tenant's that cannot be ended
// are not in the way of the others'.
func (a *app) sweepUploads(ctx context.Context) error {
	var failed []error
	for tenant, err := range a.node.Directory.Tenants(ctx) {
		if err == nil {
			_, err = a.uploads.Sweep(ctx, tenant)
		}
		if err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}
