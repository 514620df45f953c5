package ortlib

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// fetch downloads with the first client that is installed and delivers.
func (l *locator) fetch(ctx context.Context) (string, error) {
	var failures []error
	for _, p := range l.pins {
		client, ok := findClient(ctx, p.client)
		if !ok {
			continue
		}
		started := time.Now()
		l.log.Info("downloading ONNX Runtime", "version", p.version, "with", client.name, "megabytes", p.archive.bytes/1_000_000)
		path, err := l.install(ctx, client, p)
		if err == nil {
			l.log.Info("ONNX Runtime is in the cache", "path", path, "seconds", time.Since(started).Round(time.Millisecond).Seconds())
			return path, nil
		}
		l.log.Warn("ONNX Runtime could not be downloaded", "with", client.name, "error", err)
		failures = append(failures, fmt.Errorf("%s: %w", client.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) == 0 {
		return "", l.noClient()
	}
	return "", fault.Wrap(fault.Unavailable, errors.Join(failures...),
		"ONNX Runtime %s for %s/%s could not be downloaded; set %s to the path of an installed %s (version %s or newer) to do without",
		l.pins[0].version, l.os, l.arch, EnvPath, libraryName(l.os), minVersion)
}

// noClient says what to install.
func (l *locator) noClient() error {
	how := "`apt-get install python3-pip` or `apt-get install npm`"
	if l.os == "darwin" {
		how = "`brew install python` or `brew install node`"
	}
	return fault.New(fault.Unavailable, "ONNX Runtime is not in the cache (%s), and neither pip nor npm is installed to download it: "+
		"run %s, or set %s to the path of an installed %s (version %s or newer)",
		l.dir, how, EnvPath, libraryName(l.os), minVersion)
}

// install downloads p's package and moves its library into the cache. The
// rename comes last, so a reader finds the whole library or none.
func (l *locator) install(ctx context.Context, client client, p pin) (path string, err error) {
	path = l.path(p)
	home := filepath.Dir(path)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	if err := sweep(home); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(home, workPrefix+"*") // the same file system, for the rename
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	if err := client.download(ctx, work, p); err != nil {
		return "", err
	}
	archive, err := onlyFile(work)
	if err != nil {
		return "", err
	}
	if err := verifyFile(archive, p.archive); err != nil {
		return "", fmt.Errorf("%s is not the pinned package: %w", filepath.Base(archive), err)
	}
	library := filepath.Join(work, "library")
	if err := extract(archive, library, p); err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Base(archive), err)
	}
	if err := os.Rename(library, path); err != nil {
		return "", err
	}
	return path, verifyCached(path, p)
}

// workPrefix starts the name of a download's folder.
const workPrefix = ".fetch-"

// sweep removes what killed downloads left behind. The lock is held, so none
// of it is in use.
func sweep(dir string) error {
	stale, err := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
	for _, path := range stale {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// onlyFile returns the package that a client left in its folder.
func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(entries) != 1 || !entries[0].Type().IsRegular() {
		return "", fmt.Errorf("it left [%s], expected one package", strings.Join(names, " "))
	}
	return filepath.Join(dir, names[0]), nil
}
