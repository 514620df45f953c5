// Package access says who acts and what they may do: principals, permissions,
// and the roles that grant them.
//
// Everything is denied by default. A request without a principal is
// unauthenticated, a principal holds exactly the permissions of its set, and
// the set is what its roles grant, cut down to the scopes of its credential.
// Who somebody is, is decided by package identity; this package only carries
// the answer and compares.
//
// Known limits: permissions are per tenant, not per object (a rule such as "the
// jobs that I submitted" belongs to the resource), and a change of roles reaches
// a principal with its next authentication, not within a running request.
package access

import (
	"iter"
	"maps"
	"regexp"
	"slices"

	"sluice/internal/platform/fault"
)

// Permission is the right to do one thing to one sort of resource, in the form
// "resource:verb", such as "api_keys:write". It is the scope of a token as well.
type Permission string

var permissionForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}:[a-z][a-z0-9_]{0,62}$`)

// Declaration makes a permission known. Each package declares the permissions
// of its own resources, and with them which of the built-in roles hold them, so
// that nobody has to keep a second list.
type Declaration struct {
	Permission Permission
	About      string // what it allows, for people who compose roles
	// Roles are the built-in roles that hold it. Admin and PlatformAdmin need no
	// mention: they hold every permission, Admin but those of the platform.
	Roles []string
	// Platform marks what concerns more than one tenant.
	Platform bool
	// Everyone marks what whoever is authenticated may do, whatever the roles and
	// scopes: to see who one is, and to sign out.
	Everyone bool
}

// Catalog is the list of all permissions that exist in a program. It is
// immutable and safe for concurrent use.
type Catalog struct {
	known map[Permission]Declaration
	order []Permission
}

// NewCatalog returns the catalogue of the declarations. A permission of the
// wrong form, one declared twice, or a role that does not exist is
// fault.Invalid: it is a defect of the program, found at its start.
func NewCatalog(declared ...Declaration) (*Catalog, error) {
	c := &Catalog{known: make(map[Permission]Declaration, len(declared))}
	for _, d := range declared {
		if !permissionForm.MatchString(string(d.Permission)) {
			return nil, invalid("permission_malformed", "permission %q is malformed: expected resource:verb in lower case, such as api_keys:write", d.Permission)
		}
		if _, twice := c.known[d.Permission]; twice {
			return nil, invalid("permission_declared_twice", "permission %q is declared twice: the second declaration needs another name", d.Permission)
		}
		for _, role := range d.Roles {
			if !slices.Contains(builtIn, role) {
				return nil, invalid("role_unknown", "permission %q is declared for role %q: the built-in roles are %q", d.Permission, role, builtIn)
			}
		}
		d.Roles = slices.Clone(d.Roles)
		c.known[d.Permission] = d
		c.order = append(c.order, d.Permission)
	}
	slices.Sort(c.order)
	return c, nil
}

// All returns the declarations, ordered by permission.
func (c *Catalog) All() iter.Seq[Declaration] {
	return func(yield func(Declaration) bool) {
		for _, p := range c.order {
			if d := c.known[p]; !yield(d) {
				return
			}
		}
	}
}

// Set returns the set of the permissions. One that was never declared is
// fault.Invalid: a misspelt permission must not silently deny, nor be granted
// once somebody declares it.
func (c *Catalog) Set(permissions ...Permission) (Set, error) {
	for _, p := range permissions {
		if _, ok := c.known[p]; !ok {
			return Set{}, invalid("permission_unknown", "permission %.80q does not exist: GET the list of permissions for those that do", p)
		}
	}
	return SetOf(permissions...), nil
}

// Everything returns the set of all declared permissions.
func (c *Catalog) Everything() Set { return SetOf(c.order...) }

// Set is an immutable set of permissions; the zero value is empty. Copies share
// their contents, so it is passed by value.
type Set struct{ held map[Permission]struct{} }

// SetOf returns the set of permissions that are constants of the program. What
// comes from outside goes through Catalog.Set, which knows the ones that exist.
func SetOf(permissions ...Permission) Set {
	s := Set{held: make(map[Permission]struct{}, len(permissions))}
	for _, p := range permissions {
		s.held[p] = struct{}{}
	}
	return s
}

// Has reports whether p is in the set.
func (s Set) Has(p Permission) bool { _, ok := s.held[p]; return ok }

// Len returns how many permissions are in the set.
func (s Set) Len() int { return len(s.held) }

// List returns the permissions in order.
func (s Set) List() []Permission { return slices.Sorted(maps.Keys(s.held)) }

// Union returns what is in s, in o or in both.
func (s Set) Union(o Set) Set {
	u := Set{held: make(map[Permission]struct{}, len(s.held)+len(o.held))}
	maps.Copy(u.held, s.held)
	maps.Copy(u.held, o.held)
	return u
}

// Intersect returns what is in both s and o.
func (s Set) Intersect(o Set) Set {
	if len(o.held) < len(s.held) {
		s, o = o, s
	}
	both := Set{held: make(map[Permission]struct{}, len(s.held))}
	for p := range s.held {
		if o.Has(p) {
			both.held[p] = struct{}{}
		}
	}
	return both
}

// Without returns what is in s and not in o.
func (s Set) Without(o Set) Set {
	rest := Set{held: make(map[Permission]struct{}, len(s.held))}
	for p := range s.held {
		if !o.Has(p) {
			rest.held[p] = struct{}{}
		}
	}
	return rest
}

// Within reports whether all of s is in o.
func (s Set) Within(o Set) bool {
	for p := range s.held {
		if !o.Has(p) {
			return false
		}
	}
	return true
}

// Equal reports whether both hold the same permissions.
func (s Set) Equal(o Set) bool { return maps.Equal(s.held, o.held) }

func invalid(code, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(code)
}
