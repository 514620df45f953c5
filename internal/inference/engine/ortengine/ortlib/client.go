package ortlib

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// client is an installed package manager. It is run as the user would: with
// the user's own settings for mirrors, proxies and certificates.
type client struct {
	name string   // "pip" or "npm"
	argv []string // how it is called here
}

// spellings are the ways to call a client, the surest first: a pip on PATH may
// belong to no working Python, and a Python may have no pip.
var spellings = map[string][][]string{
	"pip": {{"python3", "-m", "pip"}, {"pip3"}, {"pip"}},
	"npm": {{"npm"}},
}

// findClient returns the first spelling of the client that runs.
func findClient(ctx context.Context, name string) (client, bool) {
	for _, argv := range spellings[name] {
		c := client{name, argv}
		if _, err := exec.LookPath(argv[0]); err != nil {
			continue
		}
		if err := c.run(ctx, "", "--version"); err == nil {
			return c, true
		}
	}
	return client{}, false
}

// download puts p's package, and nothing else, into dir.
func (c client) download(ctx context.Context, dir string, p pin) error {
	if c.name == "npm" {
		return c.run(ctx, dir, "pack", "--silent", "--ignore-scripts", "onnxruntime-node@"+p.version)
	}
	// Python 3.12's wheel on purpose, whatever Python is installed: the library
	// inside is the same, and the wheel is pinned.
	return c.run(ctx, dir, "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
		"--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12", "--platform", p.tag,
		"--dest", ".", "onnxruntime=="+p.version)
}

// run runs the client in dir and puts the end of its output into the error.
func (c client) run(ctx context.Context, dir string, args ...string) error {
	argv := append(append([]string(nil), c.argv...), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // G204: the programs are the table above
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second // its children may hold the output open
	out := &tail{limit: 2000}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s was stopped: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns what was kept, as valid text.
func (t *tail) String() string { return string(bytes.ToValidUTF8(bytes.TrimSpace(t.buf), []byte("?"))) }
