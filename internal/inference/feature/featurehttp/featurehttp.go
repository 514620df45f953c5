// Package featurehttp is the feature store in the native API: views as a resource, rows
// that are brought, and what was known of an entity at a time.
package featurehttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// The permissions of the feature store.
const (
	Read  access.Permission = "features:read"
	Write access.Permission = "features:write"
	Views access.Permission = "feature_views:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "read views of features, and what is known of an entity", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "bring rows of features, and forget an entity", Roles: []string{access.Operator, access.MLEngineer}},
		{Permission: Views, About: "make and change views of features", Roles: []string{access.MLEngineer}},
	}
}

// Problems are the failures that only occur here, or with models that take features.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "feature_view_invalid", Title: "The view is wrong", Fix: "Send features with names, datatypes, shapes and defaults as detail says."},
		{Code: "feature_row_invalid", Title: "A row is wrong", Fix: "Send entity, event_time and values as the view has them; detail says which line and what."},
		{Code: "feature_rows_too_many", Title: "There are too many rows", Fix: "Send them in several requests."},
		{Code: "features_off", Title: "There is no feature store", Fix: "Start the server with another features.url than none."},
		{Code: "feature_view_missing", Title: "The tenant has no such view of features", Fix: "Make the view with POST /v1/feature-views, or send the model's input itself."},
		{Code: "features_unfit", Title: "The view does not fit the model", Fix: "Give the view features of the datatypes and sizes that the model's input takes."},
		{Code: "feature_missing", Title: "A feature is missing or too old", Fix: "Bring a row of the entity, give the feature a default, or have the model take it with on_missing: default."},
		{Code: "features_too_many", Title: "The request is about too many entities", Fix: "Send fewer rows at once."},
		{Code: "features_timeout", Title: "The features could not be read in time", Fix: "Try again; allow more in the model's features.timeout, or have it take defaults with on_failure: default."},
		{Code: "features_unavailable", Title: "The feature store cannot be read", Fix: "Try again later, or have the model take defaults with on_failure: default."},
		{Code: "entity_missing", Title: "The request does not say whom it is about", Fix: "Send the input, or the header, that the model's configuration names for the entity."},
		{Code: "as_of_invalid", Title: "as_of is no time", Fix: "Send a time in RFC 3339, such as 2026-01-31T12:00:00Z."},
	}
}

type handler struct {
	store feature.Store
	bus   *cqrs.Bus
}

// Register adds the operations, and the commands to a bus. Without a store those on rows
// say that there is none.
func Register(v *api.API, b *cqrs.Bus, store feature.Store) {
	h := handler{store, b}
	views().Register(v, b)
	handle(b, store)
	h.registerRows(v)
	get := api.Operation{ID: "get-features", Method: http.MethodGet, Path: "/features/{view}/{entity}", Summary: "Read what is known of an entity", Tags: []string{"features"}, Permission: Read,
		Description: "Now, or as of a time: by rows that were written by then, of event times until then."}
	api.Register(v, get, h.read)
	forget := api.Operation{ID: "forget-features", Method: http.MethodDelete, Path: "/features/{view}/{entity}", Summary: "Forget an entity", Tags: []string{"features"}, Permission: Write, Status: http.StatusNoContent}
	api.Register(v, forget, h.forget)
}

// Row is what is known of an entity.
type Row struct {
	Object    string         `json:"object"`
	View      string         `json:"view"`
	Entity    string         `json:"entity"`
	EventTime api.Time       `json:"event_time" doc:"From which it is true."`
	WrittenAt api.Time       `json:"written_at"`
	Values    map[string]any `json:"values" doc:"By the names of features, as they were brought; without defaults."`
}

type entityIn struct {
	View   string `path:"view" maxLength:"64"`
	Entity string `path:"entity" maxLength:"255"`
}

type readIn struct {
	View   string `path:"view" maxLength:"64"`
	Entity string `path:"entity" maxLength:"255"`
	AsOf   string `query:"as_of" maxLength:"40" doc:"A time in RFC 3339; now without it."`
}

type readOut struct{ Body Row }

func (h handler) read(ctx context.Context, in *readIn) (*readOut, error) {
	asOf := time.Now()
	if in.AsOf != "" {
		var err error
		if asOf, err = time.Parse(time.RFC3339Nano, in.AsOf); err != nil {
			return nil, fault.New(fault.Invalid, "as_of is %q, expected a time such as 2026-01-31T12:00:00Z", fault.Clip(in.AsOf, 40)).WithCode("as_of_invalid")
		}
	}
	r, err := cqrs.Ask(ctx, h.bus, known{key: feature.Key{View: in.View, Entity: in.Entity}, asOf: asOf})
	if err != nil {
		return nil, err
	}
	values, err := r.Known()
	if err != nil {
		return nil, err
	}
	return &readOut{Row{"features", in.View, in.Entity, api.Time{Time: r.EventTime}, api.Time{Time: r.Written}, values}}, nil
}

func (h handler) forget(ctx context.Context, in *entityIn) (*struct{}, error) {
	_, err := cqrs.Send(ctx, h.bus, forget{key: feature.Key{View: in.View, Entity: in.Entity}})
	return nil, err
}

// ingest keeps rows of a view.
type ingest struct {
	cqrs.Returns[int]
	view string
	rows []feature.Row
}

// known asks what was known of an entity.
type known struct {
	cqrs.Returns[feature.Row]
	key  feature.Key
	asOf time.Time
}

// forget forgets an entity.
type forget struct {
	cqrs.Returns[struct{}]
	key feature.Key
}

// CommandName implements cqrs.Command.
func (ingest) CommandName() string { return "features.ingest" }

// CommandName implements cqrs.Command.
func (forget) CommandName() string { return "features.forget" }

// Target is what the audit log names: the view, and none of its entities.
func (c ingest) Target() (kind, id string) { return feature.Views.Name, c.view }

// Target is what the audit log names.
func (c forget) Target() (kind, id string) { return feature.Views.Name, c.key.View }

// QueryName implements cqrs.Query.
func (known) QueryName() string { return "features.read" }

var errOff = fault.New(fault.Unsupported, "this server has no feature store: it was started with features.url=none").WithCode("features_off")

// handle has a bus keep, read and forget rows. A command that is repeated does the same
// once more.
func handle(b *cqrs.Bus, store feature.Store) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c ingest) (int, error) {
		v, err := feature.Views.Get(ctx, tx, feature.Name(c.view))
		if err == nil && store == nil {
			err = errOff
		}
		if err != nil {
			return 0, err
		}
		for i := range c.rows {
			if err := v.CheckRow(&c.rows[i]); err != nil {
				return 0, &lineError{i, err}
			}
		}
		return len(c.rows), store.Write(ctx, tx.Scope().Tenant, v.Rows, c.rows, time.Time{}, v.Keep)
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c forget) (out struct{}, err error) {
		v, err := feature.Known(ctx, tx, feature.Name(c.key.View)) // who is to be forgotten is so in a deleted view, too
		if err == nil && store == nil {
			err = errOff
		}
		if err != nil {
			return out, err
		}
		return out, store.Forget(ctx, tx.Scope().Tenant, feature.Key{View: v.Rows, Entity: c.key.Entity})
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q known) (feature.Row, error) {
		v, err := feature.Views.Get(ctx, from, feature.Name(q.key.View))
		if err == nil && store == nil {
			err = errOff
		}
		if err != nil {
			return feature.Row{}, err
		}
		p, _ := access.From(ctx) // the bus has asked for it
		rows, err := store.Read(ctx, p.Tenant, []feature.Key{{View: v.Rows, Entity: q.key.Entity}}, q.asOf)
		if err != nil {
			return feature.Row{}, err
		}
		if rows[0].Written.IsZero() {
			return feature.Row{}, repo.ErrNotFound
		}
		return rows[0], nil
	})
}

// lineError says which row was wrong.
type lineError struct {
	row int
	err error
}

// Error implements error.
func (l *lineError) Error() string { return l.err.Error() }

// Unwrap gives the reason.
func (l *lineError) Unwrap() error { return l.err }

// rowOf returns the row that an error is about, -1 for none.
func rowOf(err error) int {
	var l *lineError
	if errors.As(err, &l) {
		return l.row
	}
	return -1
}
