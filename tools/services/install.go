package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// installed returns the path of what get puts at target, which it calls only
// where the cache lacks it. What has the final name is complete: it is made
// under another one first. Of several that want the same, one makes it.
func (p *place) installed(name string, get func(target string) error) (string, error) {
	path := filepath.Join(p.cache, name)
	err := locked(path+".lock", func() error {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		fmt.Fprintf(os.Stderr, "services: getting %s (once)\n", name)
		partial := path + ".partial"
		if err := os.RemoveAll(partial); err != nil {
			return err
		}
		if err := get(partial); err != nil {
			return err
		}
		return os.Rename(partial, path)
	})
	return path, err
}

// output runs a command in the checkout and returns what it printed, trimmed.
// What it said on standard error is part of the error.
func (p *place) output(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // G204: the callers name the programs
	cmd.Dir = p.root
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
