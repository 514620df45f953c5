package models

import (
	"context"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// public is the model server as clients may use it.
type public struct {
	*serve.Server
	control  string
	draining func() bool
}

// Ready implements serve.Models.
func (p public) Ready() bool { return !p.draining() && p.Server.Ready() }

// Load implements serve.Models.
func (p public) Load(ctx context.Context, name string, opts serve.LoadOptions) error {
	if err := p.allowed(); err != nil {
		return err
	}
	return p.Server.Load(ctx, name, opts)
}

// Unload implements serve.Models.
func (p public) Unload(ctx context.Context, name string) error {
	if err := p.allowed(); err != nil {
		return err
	}
	return p.Server.Unload(ctx, name)
}

func (p public) allowed() error {
	if p.control == "explicit" {
		return nil
	}
	return fault.New(fault.Unsupported, "explicit model load / unload is not allowed with model.control=%s; start the server with model.control=explicit", p.control)
}
