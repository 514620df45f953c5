// Package ortlib finds the shared library of ONNX Runtime: the file the
// operator names, else a copy in the user's cache, else a download with pip or
// npm, whichever is installed. What is downloaded or cached is pinned by
// version, size and SHA-256, so a wrong or damaged file is never loaded.
//
// Limits: downloads exist for Linux on x86-64 and arm64 (glibc) and for macOS
// on arm64, CPU builds only. Elsewhere, and for GPU builds, the operator
// installs the library and names it.
package ortlib

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"sluice/internal/platform/fault"
)

// EnvPath is the configuration key, and environment variable, that names a
// library installed by the operator.
const EnvPath = "SLUICE_ONNXRUNTIME"

// Config says where to look. Its zero value is usable.
type Config struct {
	// Path is the operator's own library (EnvPath). It is used as it is, with
	// no fallback: a wrong path is an error, not a reason to download.
	Path string
	// CacheDir holds downloaded libraries, a folder for each version and
	// platform; empty means sluice/onnxruntime in the user's cache folder.
	CacheDir string
	// Timeout bounds a download, waiting for another process's included; 0
	// means ten minutes.
	Timeout time.Duration
	// Logger reports downloads; nil means no reports.
	Logger *slog.Logger
}

// Locate returns the absolute path of the library, fetching it first where it
// must. Several processes may call it at once: one downloads, the others wait.
func Locate(ctx context.Context, cfg Config) (string, error) {
	if cfg.Path != "" {
		return explicit(cfg.Path)
	}
	l, err := newLocator(cfg, runtime.GOOS, runtime.GOARCH, pins)
	if err != nil {
		return "", err
	}
	return l.locate(ctx)
}

// explicit checks the operator's path.
func explicit(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "%s: cannot resolve %q", EnvPath, path)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "%s names no readable ONNX Runtime library", EnvPath)
	}
	if !info.Mode().IsRegular() {
		return "", fault.New(fault.Invalid, "%s must name the shared library itself (%s), but %s is %s",
			EnvPath, libraryName(runtime.GOOS), abs, describe(info))
	}
	return abs, nil
}

func describe(info os.FileInfo) string {
	if info.IsDir() {
		return "a folder"
	}
	return "not a regular file"
}

// locator looks for the library of one platform.
type locator struct {
	os, arch string
	dir      string // the cache
	pins     []pin  // this platform's, the preferred one first
	timeout  time.Duration
	log      *slog.Logger
}

func newLocator(cfg Config, goos, goarch string, all []pin) (*locator, error) {
	l := &locator{os: goos, arch: goarch, dir: cfg.CacheDir, timeout: cfg.Timeout, log: cfg.Logger}
	for _, p := range all {
		if p.os == goos && p.arch == goarch {
			l.pins = append(l.pins, p)
		}
	}
	if len(l.pins) == 0 {
		return nil, fault.New(fault.Unsupported, "there is no pinned ONNX Runtime for %s/%s: install version %s or newer "+
			"and set %s to the path of its %s", goos, goarch, minVersion, EnvPath, libraryName(goos))
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.timeout <= 0 {
		l.timeout = 10 * time.Minute
	}
	if l.dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "no user cache folder for ONNX Runtime: set HOME or %s", EnvPath)
		}
		l.dir = filepath.Join(base, "sluice", "onnxruntime")
	}
	abs, err := filepath.Abs(l.dir)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "cannot resolve the cache folder %q", l.dir)
	}
	l.dir = abs
	return l, nil
}

func (l *locator) locate(ctx context.Context) (string, error) {
	if path, ok := l.cached(); ok {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "cannot create the cache folder for ONNX Runtime")
	}
	unlock, err := lock(ctx, filepath.Join(l.dir, ".lock"))
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "cannot lock the cache folder %s", l.dir)
	}
	defer unlock()
	if path, ok := l.cached(); ok { // another process was faster
		return path, nil
	}
	return l.fetch(ctx)
}

// cached returns the first pinned library that the cache holds intact.
func (l *locator) cached() (string, bool) {
	for _, p := range l.pins {
		path := l.path(p)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		err := verifyCached(path, p)
		if err == nil {
			return path, true
		}
		l.log.Warn("cached ONNX Runtime is damaged and will be fetched again", "path", path, "error", err)
	}
	return "", false
}

// path is where the cache keeps p's library.
func (l *locator) path(p pin) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s-%s-%s", p.version, p.os, p.arch), p.file)
}

// libraryName is the library's usual file name, for messages.
func libraryName(goos string) string {
	switch goos {
	case "darwin":
		return "libonnxruntime.dylib"
	case "windows":
		return "onnxruntime.dll"
	}
	return "libonnxruntime.so"
}
