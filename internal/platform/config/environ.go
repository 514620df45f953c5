package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// parseEnviron splits NAME=value pairs; the last of a name counts.
func parseEnviron(environ []string) map[string]string {
	vars := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// fromEnv applies the environment. An empty variable is set, to nothing: it
// clears a text or a list and is an error for a number.
func (l *loader) fromEnv(vars map[string]string) {
	known := []string{configEnv}
	for _, f := range l.fields {
		known = append(known, f.env())
		name := f.env()
		value, ok := vars[name]
		if !ok {
			if name = f.tag.Get("env"); name != "" {
				value = vars[name]
				ok = value != ""
			}
		}
		if ok {
			l.apply(f, value, "environment variable "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, clientPrefix) && !slices.Contains(known, name) && !isServiceLink(name, vars[name]) {
			l.problem("unknown environment variable %s; %s", name, hint(name, known))
		}
	}
}

// serviceLink and serviceURL match the variables that Kubernetes sets in every
// container of a namespace that has a service called sluice, or sluice-something.
var (
	serviceURL  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
	serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
)

// isServiceLink reports whether Kubernetes set the variable, not the user.
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value)
}
