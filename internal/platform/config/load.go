package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/typo"
)

const envPrefix = "SLUICE_"

// clientPrefix begins the variables of the command-line client: they may be set
// here too, and are left alone.
const clientPrefix = envPrefix + "CLIENT_"

// configEnv and configFlag name the configuration file: they are not settings.
const (
	configEnv  = envPrefix + "CONFIG"
	configFlag = "config"
)

// ErrHelp is returned by Load where the arguments ask for help.
var ErrHelp = errors.New("help requested")

// Load reads the settings from their defaults, the file named by --config or
// SLUICE_CONFIG, the environment ("NAME=value") and the arguments (flags
// only), and validates them. Its error lists everything that is wrong.
func Load(args, environ []string) (Config, error) {
	c := Config{}
	l, err := load(&c, args, environ)
	if err != nil {
		return Config{}, err
	}
	c.origins = l.origins
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// loader collects settings and what is wrong with them.
type loader struct {
	fields   []field
	sections []string
	origins  map[string]string
	problems []string
}

// load fills dst, a pointer to a struct of settings, and holds every value
// against its tags.
func load(dst any, args, environ []string) (*loader, error) {
	l := &loader{origins: map[string]string{}}
	l.fields, l.sections = fields(reflect.ValueOf(dst).Elem(), "")
	for _, f := range l.fields {
		if text, ok := f.tag.Lookup("default"); ok {
			if err := f.set(text); err != nil {
				panic("config: default of " + f.key + ": " + err.Error())
			}
		}
	}

	flags, help := l.parseArgs(args)
	if help {
		return nil, ErrHelp
	}
	vars := parseEnviron(environ)
	path, source := vars[configEnv], "environment variable "+configEnv
	for _, a := range flags {
		if a.name == configFlag {
			path, source = a.value, "--"+configFlag
		}
	}
	if path != "" {
		l.fromFile(path, source)
	}
	l.fromEnv(vars)
	l.fromFlags(flags)
	for _, f := range l.fields {
		if err := f.check(); err != nil {
			l.problem("%s%s", err, l.origin(f))
		}
	}
	return l, invalid(l.problems)
}

// invalid makes one error of everything that is wrong, nil where nothing is.
func invalid(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "configuration: %s", strings.Join(problems, "\nconfiguration: "))
}

// hint names the known name that was probably meant by one that is not known.
func hint(name string, known []string) string {
	if near := typo.Nearest(name, known); near != "" {
		return "the nearest known one is " + near
	}
	return "--help lists all"
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// apply sets one field from a source and remembers which.
func (l *loader) apply(f field, text, source string) {
	if err := f.set(text); err != nil {
		if f.tag.Get("secret") != "" {
			err = errors.New("the value is not valid")
		}
		l.problem("%s: %s", source, err)
		return
	}
	l.origins[f.key] = source
}

func (l *loader) origin(f field) string {
	if s := l.origins[f.key]; s != "" {
		return " (" + s + ")"
	}
	return ""
}

func (l *loader) fromFile(path, source string) {
	data, err := readFile(path)
	if err != nil {
		l.problem("%s: %s", source, err)
		return
	}
	l.fromYAML(path, data)
}

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, expected at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}
