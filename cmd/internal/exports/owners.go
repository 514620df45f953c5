package exports

import (
	"context"
	"errors"
	"time"

	"sluice/cmd/internal/node"
	"sluice/internal/batch/export/schedule"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/repo"
)

// owners knows what keys and users may do now.
type owners struct {
	node *node.Node
	open bool // nobody is asked who they are
}

// Principal implements schedule.Owners.
func (o owners) Principal(ctx context.Context, tenant string, w schedule.Owner) (*access.Principal, error) {
	p, err := o.principal(ctx, tenant, w)
	switch {
	case errors.Is(err, repo.ErrNotFound), fault.Is(err, fault.Unauthenticated):
		return nil, fault.New(fault.PermissionDenied, "the owner of the schedule is not there any more, or may not sign in: change the schedule, to own it").WithCode("schedule_owner")
	case err != nil:
		return nil, err
	case p.Expired(o.node.Store.Now()):
		return nil, fault.New(fault.PermissionDenied, "the API key that owns the schedule has expired: change the schedule, to own it").WithCode("schedule_owner")
	}
	return p, nil
}

func (o owners) principal(ctx context.Context, tenant string, w schedule.Owner) (*access.Principal, error) {
	if w.Kind == access.KindAnonymous {
		if !o.open {
			return nil, repo.ErrNotFound
		}
		return access.Anonymous(o.node.Catalog.Everything()), nil
	}
	d := o.node.Directory
	if err := d.Admit(ctx, tenant); err != nil {
		return nil, err
	}
	if w.Credential == "" {
		u, err := directory.Users.Get(ctx, d.Reading(tenant), directory.UserID(w.Subject))
		if err != nil || u.Disabled {
			return nil, errors.Join(err, missing(u.Disabled))
		}
		return &access.Principal{Tenant: tenant, Subject: w.Subject, Kind: access.KindUser, Method: access.MethodPassword, Roles: u.Roles, Permissions: o.node.Roles.Effective(u.Roles, nil)}, nil
	}
	k, err := directory.Keys.Get(ctx, d.Reading(tenant), directory.KeyID(w.Credential))
	if err != nil {
		return nil, err
	}
	return &access.Principal{Tenant: tenant, Subject: w.Subject, Kind: access.KindAPIKey, Method: access.MethodAPIKey, Roles: k.Roles, Permissions: o.node.Roles.Effective(k.Roles, k.Scopes), Expires: ends(&k, o.node.Store.Now()), Credential: w.Credential, Person: k.Person}, nil
}

func missing(is bool) error {
	if is {
		return repo.ErrNotFound
	}
	return nil
}

// ends is when a key opens nothing any more; zero for never.
func ends(k *directory.Key, now time.Time) time.Time {
	last := now // of a key without secrets
	for _, s := range k.Secrets {
		if s.Expires.IsZero() {
			return k.Expires
		}
		if s.Expires.After(last) {
			last = s.Expires
		}
	}
	if !k.Expires.IsZero() && k.Expires.Before(last) {
		return k.Expires
	}
	return last
}
