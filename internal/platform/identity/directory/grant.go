package directory

import (
	"strconv"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// Grant refuses to give rights that the principal does not have itself.
func Grant(roles *access.Roles, p *access.Principal, names []string, scopes []access.Permission) error {
	for i, name := range names {
		if _, known := roles.Get(name); !known {
			return unknown("#/roles/"+strconv.Itoa(i), "role_unknown", "there is no role %q, expected some of %q", fault.Clip(name, 64), roles.Names())
		}
	}
	everything, _ := roles.Get(access.PlatformAdmin)
	for i, scope := range scopes {
		if !everything.Has(scope) {
			return unknown("#/scopes/"+strconv.Itoa(i), "permission_unknown", "there is no permission %q", fault.Clip(string(scope), 128))
		}
	}
	return Command(roles, p, names, scopes)
}

func unknown(pointer, code, format string, args ...any) error {
	f := fault.New(fault.Unprocessable, format, args...).WithCode(code)
	return f.WithDetails(fault.Detail{Pointer: pointer, Code: code, Message: "it does not exist"})
}

// Command refuses to take over what has more rights than the principal: who
// gives a key a secret, or a user a password, can act as it.
func Command(roles *access.Roles, p *access.Principal, names []string, scopes []access.Permission) error {
	missing := roles.Effective(names, scopes).Without(p.Permissions).Without(roles.Everyone()).List()
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.PermissionDenied, "nobody can grant what they do not have; you lack %q", missing[:min(len(missing), maxNamed)]).WithCode("grant_exceeds_own")
}

// maxNamed is how many missing permissions a message names.
const maxNamed = 20
