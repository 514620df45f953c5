// Package rollouthttp has aliases of models, experiments and releases as resources of
// the native API.
//
// A change is conditional: If-Match names the version that it is meant for, and
// If-None-Match: * makes what is not there yet (RFC 9110, section 13.1). What is
// protected is only proposed by a change, answered with 202, until somebody else
// approves it.
package rollouthttp

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/inference/rollout"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// Alias is what is shown of an alias.
type Alias struct {
	Object    string    `json:"object"`
	Model     string    `json:"model"`
	Alias     string    `json:"alias"`
	Version   string    `json:"version" doc:"Of the model, that serves requests for the alias."`
	Digest    string    `json:"artifact_digest" doc:"SHA-256 of that version's file, when the alias was pointed to it."`
	Protected bool      `json:"protected" doc:"Whether changes need the approval of somebody else."`
	Holder    string    `json:"held_by,omitempty" doc:"The experiment or release that divides the alias's requests; nothing else changes it meanwhile."`
	Proposed  *Proposal `json:"proposed,omitempty" doc:"The change that waits for an approval."`
	UpdatedAt api.Time  `json:"updated_at"`
	UpdatedBy string    `json:"updated_by"`
}

// Proposal is a change that waits for an approval.
type Proposal struct {
	Version   string   `json:"version,omitempty"`
	Digest    string   `json:"artifact_digest,omitempty"`
	Protected bool     `json:"protected"`
	Remove    bool     `json:"remove,omitempty" doc:"Whether the alias is to be removed instead."`
	By        string   `json:"proposed_by"`
	At        api.Time `json:"proposed_at"`
}

// Change is what an alias pointed to from a time on.
type Change struct {
	Sequence   int64    `json:"sequence"`
	At         api.Time `json:"at"`
	By         string   `json:"by" doc:"Who changed it, or approved that."`
	ProposedBy string   `json:"proposed_by,omitempty" doc:"Who asked for it, where somebody else approved."`
	Release    string   `json:"release,omitempty" doc:"The release that promoted the version."`
	Version    string   `json:"version,omitempty"`
	Digest     string   `json:"artifact_digest,omitempty"`
	Protected  bool     `json:"protected"`
	Removed    bool     `json:"removed,omitempty"`
}

// AliasPath names an alias.
type AliasPath struct {
	Model string `path:"model" maxLength:"255"`
	Alias string `path:"alias" maxLength:"63" doc:"A letter, and letters, digits, - or _ behind it. Requests that name no version are for champion, where the model has it."`
}

// Conditions are what a change is conditional on.
type Conditions struct {
	api.IfMatch
	IfNoneMatch string `header:"If-None-Match" doc:"* makes what is not there yet, instead of If-Match."`
}

// expectation returns what the conditions ask for.
func (c Conditions) expectation() (e rollout.Expectation, err error) {
	switch c.IfNoneMatch {
	case "":
		e.Version, e.Any, err = c.Version()
	case "*":
		if e.Absent = true; c.IfMatch.IfMatch != "" {
			err = fault.New(fault.Invalid, "If-Match and If-None-Match: * contradict each other: send one of them").WithCode(problem.CodeETagInvalid)
		}
	default:
		err = fault.New(fault.Invalid, "If-None-Match takes * alone here").WithCode(problem.CodeETagInvalid)
	}
	return e, err
}

// decided returns which version a decision is about. An approval names the version that was
// read: * would approve whatever is there by now.
func decided(m api.IfMatch, approve bool) (rollout.Expectation, error) {
	e, err := Conditions{IfMatch: m}.expectation()
	if err == nil && approve && e.Any {
		err = fault.New(fault.Invalid, "an approval is for what was read: send its ETag in If-Match, not *").WithCode(problem.CodeETagInvalid)
	}
	return e, err
}

type setAliasIn struct {
	AliasPath
	Conditions
	Body struct {
		Version   string `json:"version" minLength:"1" maxLength:"20" doc:"The number of the version."`
		Protected *bool  `json:"protected,omitempty" doc:"Whether changes need the approval of somebody else; as it is without it."`
	}
}

type changeAliasIn struct {
	AliasPath
	api.IfMatch
}

type aliasOut struct {
	Status int
	ETag   string `header:"ETag"`
	Body   Alias
}

type listAliasesIn struct {
	Model string `path:"model" maxLength:"255"`
	api.PageQuery
}

type listAliasesOut struct{ Body api.Page[Alias] }

type historyIn struct {
	AliasPath
	AsOf   string `query:"as_of" maxLength:"40" doc:"A time in RFC 3339: only what the alias pointed to then."`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" maxLength:"20"`
}

type historyOut struct{ Body api.Page[Change] }

func aliasView(a *rollout.LoadedAlias) Alias {
	s := &a.State
	v := Alias{Object: "alias", Model: s.Model, Alias: s.Name, Version: number(s.Version), Digest: s.Digest, Protected: s.Protected,
		Holder: s.Holder, UpdatedAt: api.Time{Time: a.UpdatedAt}, UpdatedBy: a.UpdatedBy}
	if p := s.Proposed; p != nil {
		v.Proposed = &Proposal{number(p.Version), p.Digest, p.Protected, p.Remove, p.By, api.Time{Time: p.At}}
	}
	return v
}

// number writes the number of a version, "" for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Register adds the operations to the API.
func Register(a *api.API, b *cqrs.Bus, s *rollout.Service, e Evidence) {
	aliases(a, b, s)
	experiments(a, b, s, e)
	releases(a, b, s, e)
}

func aliases(a *api.API, b *cqrs.Bus, s *rollout.Service) {
	const path = "/models/{model}/aliases/{alias}"
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"aliases"}, Permission: permission}
	}
	api.Register(a, op("list-aliases", http.MethodGet, "/models/{model}/aliases", "List a model's aliases", rollout.Read),
		func(ctx context.Context, in *listAliasesIn) (*listAliasesOut, error) {
			page, err := cqrs.Ask(ctx, b, rollout.ListAliases{Model: in.Model, After: in.Cursor, Limit: in.Limit})
			views := []Alias{}
			for i := range page.Items {
				if page.Items[i].State.Exists {
					views = append(views, aliasView(&page.Items[i]))
				}
			}
			return &listAliasesOut{api.NewPage(views, page.Next)}, err
		})
	api.Register(a, op("get-alias", http.MethodGet, path, "Read an alias", rollout.Read), func(ctx context.Context, in *AliasPath) (*aliasOut, error) {
		return shown(cqrs.Ask(ctx, b, rollout.FindAlias{Model: in.Model, Alias: in.Alias}))
	})
	put := op("set-alias", http.MethodPut, path, "Point an alias to a version", rollout.Write)
	put.Description = "In effect on every node within a second, and between two requests: none fails. A protected alias is not changed but answered with 202: somebody else has to approve what is proposed."
	api.Register(a, put, func(ctx context.Context, in *setAliasIn) (*aliasOut, error) {
		expect, err := in.expectation()
		if err != nil {
			return nil, err
		}
		return changed(s.SetAlias(ctx, rollout.SetAlias{Model: in.Model, Alias: in.Alias, Version: in.Body.Version, Protected: in.Body.Protected, Expect: expect}))
	})
	remove := op("remove-alias", http.MethodDelete, path, "Remove an alias", rollout.Write)
	remove.Description = "Answers 204, or 202 where the alias is protected and somebody else has to approve."
	api.Register(a, remove, func(ctx context.Context, in *changeAliasIn) (*aliasOut, error) {
		expect, err := Conditions{IfMatch: in.IfMatch}.expectation()
		if err != nil {
			return nil, err
		}
		out, err := changed(cqrs.Send(ctx, b, rollout.RemoveAlias{Model: in.Model, Alias: in.Alias, Expect: expect}))
		if err == nil && out.Status == http.StatusOK {
			out.Status, out.ETag = http.StatusNoContent, ""
		}
		return out, err
	})
	for verb, approve := range map[string]bool{"approve": true, "reject": false} {
		o := op(verb+"-alias", http.MethodPost, path+"/"+verb, "Decide what is proposed for an alias: "+verb, rollout.Write)
		if o.Description = "Whoever has asked for it may withdraw it so."; approve {
			o.Permission, o.Description = rollout.Approve, "By somebody else than who has asked for it."
		}
		api.Register(a, o, func(ctx context.Context, in *changeAliasIn) (*aliasOut, error) {
			expect, err := decided(in.IfMatch, approve)
			if err != nil {
				return nil, err
			}
			return shown(s.DecideAlias(ctx, rollout.DecideAlias{Model: in.Model, Alias: in.Alias, Approve: approve, Expect: expect}))
		})
	}
	h := op("get-alias-history", http.MethodGet, path+"/history", "What an alias pointed to, and when", rollout.Read)
	h.Description = "All changes, the oldest first, also of an alias that was removed; with as_of the one that was in effect at that time."
	api.Register(a, h, func(ctx context.Context, in *historyIn) (*historyOut, error) { return history(ctx, b, in) })
}

// shown answers with an alias.
func shown(a *rollout.LoadedAlias, err error) (*aliasOut, error) {
	if err != nil {
		return nil, err
	}
	return &aliasOut{Status: http.StatusOK, ETag: api.ETag(a.Root.Version), Body: aliasView(a)}, nil
}

// changed is shown, with 202 where the change is only proposed.
func changed(a *rollout.LoadedAlias, err error) (*aliasOut, error) {
	out, err := shown(a, err)
	if err == nil && a.State.Proposed != nil {
		out.Status = http.StatusAccepted
	}
	return out, err
}

// history answers with what an alias pointed to.
func history(ctx context.Context, b *cqrs.Bus, in *historyIn) (*historyOut, error) {
	q := rollout.AliasHistory{Model: in.Model, Alias: in.Alias, Limit: in.Limit}
	if in.AsOf != "" {
		var t api.Time
		if err := t.UnmarshalText([]byte(in.AsOf)); err != nil {
			return nil, err
		}
		q.AsOf = t.Add(time.Millisecond - time.Microsecond) // times are shown in milliseconds: all of that one is included
	}
	var err error
	if q.After, err = sequence(in.Cursor); err != nil {
		return nil, err
	}
	changes, err := cqrs.Ask(ctx, b, q)
	if err != nil {
		return nil, err
	}
	views, next := []Change{}, ""
	for _, c := range changes {
		views = append(views, Change{Sequence: c.Sequence, At: api.Time{Time: c.At}, By: c.By, ProposedBy: c.ProposedBy, Release: c.Release,
			Version: number(c.Version), Digest: c.Digest, Protected: c.Protected, Removed: c.Removed})
	}
	if q.AsOf.IsZero() && len(changes) == in.Limit {
		next = strconv.FormatInt(changes[len(changes)-1].Sequence, 10)
	}
	return &historyOut{api.NewPage(views, next)}, nil
}
