// Package admin offers what is administered through the API: tenants, API keys,
// users, webhook endpoints, feature flags and the audit log's entries.
//
// Its types are those of the API; what they are about lives in the packages
// directory, webhook, flag and trail.
package admin

import (
	"sluice/internal/platform/access"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/flag"
	"sluice/internal/platform/identity/directory"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
	"sluice/internal/platform/webhook"
)

// The permissions of what is administered.
const (
	tenantsRead, tenantsWrite   access.Permission = "tenants:read", "tenants:write"
	keysRead, keysWrite         access.Permission = "api_keys:read", "api_keys:write"
	usersRead, usersWrite       access.Permission = "users:read", "users:write"
	webhooksRead, webhooksWrite access.Permission = "webhook_endpoints:read", "webhook_endpoints:write"
	flagsRead, flagsWrite       access.Permission = "feature_flags:read", "feature_flags:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: tenantsRead, About: "list tenants", Platform: true},
		{Permission: tenantsWrite, About: "make, suspend and delete tenants", Platform: true},
		{Permission: keysRead, About: "list API keys, without their secrets"},
		{Permission: keysWrite, About: "issue, rotate and revoke API keys"},
		{Permission: usersRead, About: "list users"},
		{Permission: usersWrite, About: "make users, change their roles and passwords"},
		{Permission: webhooksRead, About: "list webhook endpoints", Roles: []string{access.Viewer, access.Operator}},
		{Permission: webhooksWrite, About: "make and change webhook endpoints", Roles: []string{access.Operator}},
		{Permission: flagsRead, About: "list feature flags", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: flagsWrite, About: "turn feature flags", Roles: []string{access.Operator}},
		{Permission: trail.Read, About: "search the audit entries of the tenant", Roles: []string{access.Auditor}},
	}
}

// Schemas is what the store's migration has to know.
func Schemas() []*repo.Schema {
	return append(directory.Schemas(), flag.Flags.Schema(), webhook.Endpoints.Schema(), trail.Entries.Schema())
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "grant_exceeds_own", Title: "More rights than you have", Fix: "Grant roles and scopes that you hold yourself, or ask somebody who holds more."},
		{Code: "role_unknown", Title: "There is no such role", Fix: "Use one of the roles that the message names."},
		{Code: "sign_in_failed", Title: "The sign-in failed", Fix: "Check tenant, login and password."},
		{Code: "too_many", Title: "There are too many already", Fix: "Wait until one has ended, or remove one."},
		{Code: "webhook_url_invalid", Title: "The address cannot be a webhook's", Fix: "Use an https address without user and fragment."},
		{Code: "event_type_malformed", Title: "There are no such events", Fix: "Name types such as batch.completed, batch.* or *."},
		{Code: "percent_out_of_range", Title: "The share is not 0 to 100", Fix: "Send a whole number from 0 to 100."},
	}
}

// Admin registers the resources.
type Admin struct {
	Directory *directory.Directory
	Roles     *access.Roles
	Passwords *password.Hasher
}

// Register adds everything to the bus and to the API.
func (m Admin) Register(a *api.API, b *cqrs.Bus) {
	tenants().Register(a, b)
	m.keys().Register(a, b)
	m.rotation(a, b)
	m.users().Register(a, b)
	m.sessions(a)
	webhooks().Register(a, b)
	flags().Register(a, b)
	entries().Register(a, b)
}
