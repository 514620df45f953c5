package main

import (
	"context"
	_ "time/tzdata" // exports tell times in zones that the host may not have

	"sluice/cmd/internal/exports"
	"sluice/cmd/internal/node"
	"sluice/internal/batch/export"
	"sluice/internal/platform/lifecycle"
)

// needExports adds to a node what exports need of it.
func needExports(d node.Deps) node.Deps {
	d.Permissions = append(d.Permissions, export.Permissions()...)
	d.Schemas = append(d.Schemas, export.Exports.Schema())
	d.Expiring = append(d.Expiring, export.Exports.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: export.Folder, Owned: export.Owned})
	return d
}

func newExports(a *app) (*export.Service, error) {
	c := a.cfg.Export
	return export.New(a.node.Store, a.node.Bus, a.node.Blobs, exports.Datasets(a.node.Store), export.Config{
		Keep: c.Keep, PartSize: int64(c.PartSize), MaxActive: c.MaxActive, MaxExports: c.MaxExports, Log: a.log, Metrics: a.registry,
	})
}

// exportComponent runs exports.
func exportComponent(a *app) lifecycle.Component {
	return lifecycle.Component{Name: "exports", Run: func(ctx context.Context) error {
		return a.exports.Run(ctx, a.cfg.Export.Workers, a.node.Directory.Tenants)
	}}
}
