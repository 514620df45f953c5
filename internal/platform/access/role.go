package access

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The built-in roles. What each of them may do is said by the declarations of
// the permissions.
const (
	Viewer        = "viewer"         // sees, changes nothing
	Operator      = "operator"       // runs what is there
	MLEngineer    = "ml_engineer"    // brings models and their versions
	Analyst       = "analyst"        // runs predictions and reads results
	Auditor       = "auditor"        // reads the audit log
	Admin         = "admin"          // everything within its tenant
	PlatformAdmin = "platform_admin" // everything, tenants included
)

var builtIn = []string{Viewer, Operator, MLEngineer, Analyst, Auditor, Admin, PlatformAdmin}

// Role is a role of the operator's own making. Its grants are permissions, and
// "*" may stand for a resource, a verb or both: "jobs:*", "*:read", "*:*". A
// wildcard grants what the tenant's own administrator could, never a permission
// of the platform: such a one has to be named.
type Role struct {
	Name   string
	Grants []string
}

var roleForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Roles knows what every role grants. It is immutable and safe for concurrent
// use.
type Roles struct {
	sets               map[string]Set
	platform, everyone Set
}

// NewRoles returns the built-in roles of the catalogue and the custom ones.
// fault.Invalid: a name that is malformed or taken, and a grant that matches no
// permission.
func NewRoles(c *Catalog, custom ...Role) (*Roles, error) {
	r := &Roles{
		sets:     make(map[string]Set, len(builtIn)+len(custom)),
		platform: c.where(func(d Declaration) bool { return d.Platform }),
		everyone: c.where(func(d Declaration) bool { return d.Everyone }),
	}
	for _, name := range builtIn {
		r.sets[name] = c.where(func(d Declaration) bool { return d.heldBy(name) })
	}
	for _, role := range custom {
		if !roleForm.MatchString(role.Name) {
			return nil, invalid("role_malformed", "role name %.80q is malformed: expected lower case letters, digits and _, such as night_operator", role.Name)
		}
		if _, taken := r.sets[role.Name]; taken {
			return nil, invalid("role_taken", "role %q exists already: choose another name, built-in roles cannot be redefined", role.Name)
		}
		set, err := c.granted(role)
		if err != nil {
			return nil, err
		}
		r.sets[role.Name] = set.Union(r.everyone)
	}
	return r, nil
}

func (d Declaration) heldBy(role string) bool {
	return d.Everyone || role == PlatformAdmin || role == Admin && !d.Platform || slices.Contains(d.Roles, role)
}

func (c *Catalog) granted(role Role) (Set, error) {
	all := Set{}
	for _, grant := range role.Grants {
		set := c.where(func(d Declaration) bool { return matches(grant, d) })
		if set.Len() == 0 {
			return Set{}, invalid("grant_unknown", "role %q grants %.80q, which matches no permission: expected resource:verb with * for any, such as jobs:*", role.Name, grant)
		}
		all = all.Union(set)
	}
	return all, nil
}

func matches(grant string, d Declaration) bool {
	if grant == string(d.Permission) {
		return true
	}
	resource, verb, ok := strings.Cut(grant, ":")
	ownResource, ownVerb, _ := strings.Cut(string(d.Permission), ":")
	return ok && !d.Platform && (resource == "*" || resource == ownResource) && (verb == "*" || verb == ownVerb)
}

func (c *Catalog) where(keep func(Declaration) bool) Set {
	var held []Permission
	for d := range c.All() {
		if keep(d) {
			held = append(held, d.Permission)
		}
	}
	return SetOf(held...)
}

// Names returns the names of all roles in order.
func (r *Roles) Names() []string { return slices.Sorted(maps.Keys(r.sets)) }

// Get returns what the role grants.
func (r *Roles) Get(name string) (Set, bool) { s, ok := r.sets[name]; return s, ok }

// Granted returns what the roles grant together, with what everyone may do. A
// role that does not exist grants nothing: tokens name roles of other services
// too, and a role that the operator removed must take its rights along.
func (r *Roles) Granted(names []string) Set {
	if len(names) == 1 {
		if set, known := r.sets[names[0]]; known {
			return set
		}
	}
	all := r.everyone
	for _, name := range names {
		all = all.Union(r.sets[name])
	}
	return all
}

// Platform returns the permissions that concern more than one tenant. A
// credential whose issuer speaks for one tenant only is cut down by them.
func (r *Roles) Platform() Set { return r.platform }

// Everyone returns the permissions that no role has to grant and no scope can
// take away.
func (r *Roles) Everyone() Set { return r.everyone }

// Effective returns what a credential with these roles and scopes may do: what
// the roles grant, and of that, where there are scopes, only what they name.
// Scopes never add anything, and an unknown one names nothing.
func (r *Roles) Effective(names []string, scopes []Permission) Set {
	granted := r.Granted(names)
	if len(scopes) == 0 {
		return granted
	}
	return granted.Intersect(SetOf(scopes...).Union(r.everyone))
}
