package config

import "strings"

// argument is one flag as given.
type argument struct {
	name, value string
	field       field
}

// parseArgs reads --name=value, --name value and, for switches, --name.
func (l *loader) parseArgs(args []string) (parsed []argument, help bool) {
	byFlag, known := map[string]field{configFlag: {}}, []string{"--" + configFlag, "--help"}
	for _, f := range l.fields {
		byFlag[f.flag()] = f
		known = append(known, "--"+f.flag())
	}
	for i := 0; i < len(args); i++ {
		if args[i] == "-h" || args[i] == "--help" || args[i] == "-help" {
			return nil, true
		}
		name, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag {
			l.problem("unexpected argument %q; settings are given as --name=value", args[i])
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		f, ok := byFlag[name]
		switch {
		case !ok:
			l.problem("unknown flag --%s; %s", name, hint("--"+name, known))
			if !hasValue && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++ // its value, most likely
			}
			continue
		case hasValue:
		case f.key != "" && f.isBool():
			value = "true"
		case i+1 == len(args):
			l.problem("flag --%s has no value", name)
			continue
		default:
			i++
			value = args[i]
		}
		parsed = append(parsed, argument{name, value, f})
	}
	return parsed, false
}

func (l *loader) fromFlags(flags []argument) {
	for _, a := range flags {
		if a.field.key != "" {
			l.apply(a.field, a.value, "flag --"+a.name)
		}
	}
}
