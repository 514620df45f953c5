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
	"sluice/internal/platform/seal"
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
	selfUse                     access.Permission = "self:use"
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
		{Permission: webhooksRead, About: "list webhook endpoints and what was sent to them", Roles: []string{access.Viewer, access.Operator}},
		{Permission: webhooksWrite, About: "make and change webhook endpoints, rotate their secrets, test and replay", Roles: []string{access.Operator}},
		{Permission: flagsRead, About: "list feature flags", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: flagsWrite, About: "turn feature flags", Roles: []string{access.Operator}},
		{Permission: trail.Read, About: "search the audit entries of the tenant", Roles: []string{access.Auditor}},
		{Permission: trail.ReadLog, About: "read the audit log itself, with the entries of all tenants, as witnesses do", Platform: true},
		{Permission: selfUse, About: "see who you are and what there is to be granted, change your own password, sign out", Everyone: true},
	}
}

// Schemas is what the store's migration has to know.
func Schemas() []*repo.Schema {
	return append(append(directory.Schemas(), webhook.Schemas()...), flag.Flags.Schema(), trail.Entries.Schema())
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "grant_exceeds_own", Title: "More rights than you have", Fix: "Grant roles and scopes that you hold yourself, or ask somebody who holds more."},
		{Code: "role_unknown", Title: "There is no such role", Fix: "Use one of the roles that the message names."},
		{Code: "sign_in_failed", Title: "The sign-in failed", Fix: "Check tenant, login and password."},
		{Code: "too_many", Title: "There are too many already", Fix: "Wait until one has ended, or remove one."},
		{Code: "sign_in_throttled", Title: "Too many attempts to sign in", Fix: "Wait as long as Retry-After says."},
		{Code: "tenant_unknown", Title: "The tenant is not let in", Fix: "Ask the operator whether your tenant exists here, and is not suspended."},
		{Code: "own_tenant", Title: "This would lock yourself out", Fix: "Do it as an administrator of the platform in another tenant."},
		{Code: "key_revoked", Title: "The key was revoked", Fix: "Issue a new key."},
		{Code: "key_is_session", Title: "The key is a session", Fix: "Delete it to end the session; change the user to change its rights."},
		{Code: "expired_already", Title: "The time has passed", Fix: "Send a time to come."},
		{Code: "permission_unknown", Title: "There is no such permission", Fix: "GET /v1/permissions lists those that there are."},
		{Code: "roles_without_scopes", Title: "Roles and scopes belong together", Fix: "Send both."},
		{Code: "no_session", Title: "There is no session", Fix: "Sign in with a password, and send the session's token."},
		{Code: "audit_not_writer", Title: "Another process writes the audit log", Fix: "Ask that one, or try again later."},
		{Code: "webhook_url_invalid", Title: "The address cannot be a webhook's", Fix: "Use an https address without user and fragment."},
		{Code: "webhook_disabled", Title: "The webhook endpoint is disabled", Fix: "Enable it with PATCH and disabled=false, once it can be reached."},
		{Code: "delivery_pending", Title: "The delivery is still on its way", Fix: "Wait until its status is final; next_attempt_at says when it is tried again."},
		{Code: "event_type_malformed", Title: "There are no such events", Fix: "Name types such as batch.completed, batch.* or *."},
		{Code: "percent_out_of_range", Title: "The share is not 0 to 100", Fix: "Send a whole number from 0 to 100."},
	}
}

// Admin registers the resources.
type Admin struct {
	Directory *directory.Directory
	Catalog   *access.Catalog
	Roles     *access.Roles
	Passwords *password.Hasher
	Trail     *trail.Trail
	Seals     *seal.Ring // for the secrets of webhook endpoints
}

// Register adds everything to the bus and to the API.
func (m Admin) Register(a *api.API, b *cqrs.Bus) {
	tenants().Register(a, b)
	b.Restrict("tenants.delete", notOwn)
	m.issuing(a, b)
	m.keys().Register(a, b)
	b.Restrict("api_keys.restore", stayRevoked)
	m.rotation(a, b)
	m.users().Register(a, b)
	b.Restrict("users.restore", m.mayRestore)
	m.sessions(a, b)
	m.self(a, b)
	webhooks(m.Seals).Register(a, b)
	deliveries().Register(a, b)
	calling(a, b, m.Seals)
	flags().Register(a, b)
	entries().Register(a, b)
	m.log(a, b)
}
