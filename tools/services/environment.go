package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// environment is what tests read: pairs of name and value, in a fixed order.
type environment [][2]string

// environment names every address, whether it runs or not.
func (s *set) environment() environment {
	return append(s.env[:len(s.env):len(s.env)],
		// The command itself, for tests that disturb a server.
		[2]string{"SLUICE_TEST_SERVICES", filepath.Join(s.place.root, "bin", "services")})
}

// shell is the environment as lines that a shell can take in with eval or `.`.
func (e environment) shell() string {
	var b strings.Builder
	for _, pair := range e {
		fmt.Fprintf(&b, "export %s='%s'\n", pair[0], strings.ReplaceAll(pair[1], "'", `'\''`))
	}
	return b.String()
}

func (e environment) pairs() []string {
	var out []string
	for _, pair := range e {
		out = append(out, pair[0]+"="+pair[1])
	}
	return out
}

func (e environment) save(dir string) error {
	return os.WriteFile(filepath.Join(dir, "env"), []byte(e.shell()), 0o644)
}
