package admin

import (
	"context"

	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/flag"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/resource"
)

// NewFlag is what makes a feature flag.
type NewFlag struct {
	Key         string `json:"key" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9_.-]*$" doc:"Names the flag in the program."`
	Description string `json:"description,omitempty" maxLength:"500"`
	Enabled     bool   `json:"enabled,omitempty"`
	Percent     *int   `json:"percent,omitempty" minimum:"0" maximum:"100" doc:"The share of units for which an enabled flag is on; 100 without it."`
}

// FlagChange is what changes one; what is left out stays.
type FlagChange struct {
	Description *string `json:"description,omitempty" maxLength:"500"`
	Enabled     *bool   `json:"enabled,omitempty"`
	Percent     *int    `json:"percent,omitempty" minimum:"0" maximum:"100"`
}

// FlagView is what is shown of one.
type FlagView struct {
	resource.Meta
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
	Percent     int    `json:"percent"`
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func flags() resource.Resource[flag.Key, flag.Flag, NewFlag, FlagChange, FlagView] {
	return resource.Resource[flag.Key, flag.Flag, NewFlag, FlagChange, FlagView]{
		Kind: flag.Flags, Singular: "feature_flag", Read: flagsRead, Write: flagsWrite,
		Description: "A feature flag turns something on without a deployment, for everybody or for a share of units that stays the same.",
		New: func(_ context.Context, _ *repo.Tx, in *NewFlag) (*flag.Flag, error) {
			return flag.New(flag.Key(in.Key), in.Description, in.Enabled, or(in.Percent, 100))
		},
		Change: func(_ context.Context, _ *repo.Tx, f *flag.Flag, in *FlagChange) error {
			f.Description = or(in.Description, f.Description)
			return f.Set(or(in.Enabled, f.Enabled), or(in.Percent, f.Percent))
		},
		View: func(f *flag.Flag, m resource.Meta) FlagView { return FlagView{m, f.Description, f.Enabled, f.Percent} },
	}
}

// EntryView is what is shown of an audit entry.
type EntryView struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Index   int64    `json:"index" doc:"Its place in the log, from 0: what an inclusion proof is about."`
	Time    api.Time `json:"time"`
	Actor   string   `json:"actor"`
	Action  string   `json:"action"`
	Kind    string   `json:"kind,omitempty"`
	Thing   string   `json:"resource,omitempty" doc:"The id of what it was done to."`
	Outcome string   `json:"outcome" enum:"ok,denied,failed"`
	Code    string   `json:"code,omitempty" doc:"Why it was denied or failed."`
	Request string   `json:"request_id,omitempty"`
	Change  string   `json:"change,omitempty" doc:"A commitment to what was changed."`
}

func entries() resource.Resource[trail.EntryID, trail.Entry, struct{}, struct{}, EntryView] {
	return resource.Resource[trail.EntryID, trail.Entry, struct{}, struct{}, EntryView]{
		Kind: trail.Entries, Singular: "audit_entry", Read: trail.Read, Write: trail.Read,
		Description: "The audit log has an entry for every command and every denial. Search it by actor, action, kind, resource, outcome and time.",
		View: func(e *trail.Entry, m resource.Meta) EntryView {
			return EntryView{m.ID, m.Object, e.Index, api.Time{Time: e.Time}, e.Actor, e.Action, e.Kind, e.Resource, string(e.Outcome), e.Code, e.Request, e.Change}
		},
	}
}
