package ortlib

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

// The real thing: what Locate returns here is the library that the engine
// tests load, so this fails where it can be neither found nor downloaded.
func TestLocateForReal(t *testing.T) {
	path, err := Locate(t.Context(), Config{Path: os.Getenv(EnvPath)})
	check(t, err)
	info, err := os.Stat(path)
	check(t, err)
	if info.Size() < 1<<20 || !filepath.IsAbs(path) {
		t.Errorf("%s of %d bytes is no runtime library", path, info.Size())
	}
}

func TestExplicitPathIsUsedAsItIs(t *testing.T) {
	newMachine(t)
	t.Chdir(t.TempDir())
	check(t, os.WriteFile("mine.so", []byte("anything"), 0o644))
	path, err := Locate(t.Context(), Config{Path: "mine.so"})
	check(t, err)
	if !filepath.IsAbs(path) || filepath.Base(path) != "mine.so" {
		t.Errorf("got %q, expected the absolute path of mine.so", path)
	}
}

func TestWrongExplicitPathIsNotReplaced(t *testing.T) {
	m := newMachine(t)
	m.install("python3", "exit 0")
	for name, path := range map[string]string{"missing": filepath.Join(m.bin, "no.so"), "folder": m.bin} {
		_, err := Locate(t.Context(), Config{Path: path, CacheDir: m.cache})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), EnvPath) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, expected an invalid-argument error that names %s and the path", name, err, EnvPath)
		}
	}
	if calls := m.calls(); calls != nil {
		t.Errorf("a wrong path led to a download: %q", calls)
	}
}

func TestDownloadsOnceWithPip(t *testing.T) {
	m := newMachine(t)
	wheel := zipOf(t, zipMember, library)
	m.install("python3", m.delivers("onnxruntime.whl", wheel))

	path := m.find(pipPin(wheel))
	if want := filepath.Join(m.cache, "9.9.9-linux-amd64", "libonnxruntime.so.9.9.9"); path != want {
		t.Errorf("cached at %s, expected %s", path, want)
	}
	again := m.find(pipPin(wheel))
	calls := m.calls()
	if again != path || len(calls) != 1 {
		t.Fatalf("the second call returned %s after calls %q, expected %s from the cache", again, calls, path)
	}
	for _, arg := range []string{"-m pip download", "onnxruntime==9.9.9", "--platform manylinux_9_9_x86_64", "--no-deps", "--only-binary=:all:"} {
		if !strings.Contains(calls[0], arg) {
			t.Errorf("pip was called as %q, without %s", calls[0], arg)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	check(t, err)
	if len(entries) != 2 { // the library and its stamp
		t.Errorf("the cache holds %v, expected the library and its stamp", entries)
	}
}

func TestWhicheverClientWorks(t *testing.T) {
	wheel, tarball := zipOf(t, zipMember, library), goodTar(t)
	for _, tt := range []struct {
		name    string
		broken  []string
		working string
		want    string // the start of the one call
	}{
		{"python without pip", []string{"python3"}, "pip3", "pip3 download"},
		{"only pip", nil, "pip", "pip download"},
		{"pips that do not run", []string{"python3", "pip3", "pip"}, "npm", "npm pack"},
		{"only npm", nil, "npm", "npm pack --silent --ignore-scripts onnxruntime-node@8.8.8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			for _, name := range tt.broken {
				m.broken(name)
			}
			archive := wheel
			if tt.working == "npm" {
				archive = tarball
			}
			m.install(tt.working, m.delivers("package", archive))
			m.find(pipPin(wheel), npmPin(tarball))
			if calls := m.calls(); len(calls) != 1 || !strings.HasPrefix(calls[0], tt.want) {
				t.Errorf("calls %q, expected one that starts %q", calls, tt.want)
			}
		})
	}
}

func TestNpmAfterPipFailed(t *testing.T) {
	m := newMachine(t)
	tarball := goodTar(t)
	m.install("python3", "echo no matching distribution >&2; exit 1")
	m.install("npm", m.delivers("onnxruntime-node.tgz", tarball))
	path := m.find(pipPin(zipOf(t, zipMember, library)), npmPin(tarball))
	if filepath.Base(path) != "libonnxruntime.so.8.8.8" {
		t.Errorf("got %s, expected npm's library", path)
	}
	// What npm brought is good enough for the next start, too.
	if again := m.find(pipPin(nil), npmPin(tarball)); again != path || len(m.calls()) != 2 {
		t.Errorf("the next start got %s after %q", again, m.calls())
	}
}

func TestErrorsOfEveryClientAreTold(t *testing.T) {
	m := newMachine(t)
	m.install("python3", "echo no matching distribution >&2; exit 1")
	m.install("npm", "echo ECONNREFUSED >&2; exit 7")
	m.fails([]string{"no matching distribution", "ECONNREFUSED", "exit status 7", EnvPath, "linux/amd64"}, pipPin(nil), npmPin(nil))
}

func TestNoClientNamesWhatToInstall(t *testing.T) {
	m := newMachine(t)
	m.broken("pip")
	m.fails([]string{"apt-get install python3-pip", "apt-get install npm", EnvPath, "libonnxruntime.so", m.cache}, pipPin(nil), npmPin(nil))
	mac := &locator{os: "darwin", arch: "arm64"}
	if err := mac.noClient(); !strings.Contains(err.Error(), "brew install") {
		t.Errorf("on macOS: %v", err)
	}
}

func TestOtherPlatformsAreRefused(t *testing.T) {
	for _, platform := range [][2]string{{"linux", "riscv64"}, {"darwin", "amd64"}, {"windows", "amd64"}} {
		_, err := newLocator(Config{}, platform[0], platform[1], pins)
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), platform[0]+"/"+platform[1]) || !strings.Contains(err.Error(), EnvPath) {
			t.Errorf("%s: %v", platform, err)
		}
	}
}

func TestNoCacheFolder(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	if _, err := newLocator(Config{}, "linux", "amd64", pins); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), EnvPath) {
		t.Errorf("without a home: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o644))
	l, err := newLocator(Config{CacheDir: filepath.Join(file, "cache")}, "linux", "amd64", pins)
	check(t, err)
	if _, err := l.locate(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("with a cache below a file: %v", err)
	}
}

func TestManyCallersOneDownload(t *testing.T) {
	m := newMachine(t)
	wheel := zipOf(t, zipMember, library)
	m.install("python3", "sleep 0.3\n"+m.delivers("onnxruntime.whl", wheel))
	var wg sync.WaitGroup
	paths := make([]string, 12)
	for i := range paths {
		// A locator each, as in as many processes: the lock is per open file.
		l := m.locator(pipPin(wheel))
		wg.Go(func() {
			path, err := l.locate(t.Context())
			if err != nil {
				t.Error(err)
			}
			paths[i] = path
		})
	}
	wg.Wait()
	for _, path := range paths {
		if path != paths[0] {
			t.Errorf("paths differ: %q", paths)
		}
	}
	if calls := m.calls(); len(calls) != 1 {
		t.Errorf("%d downloads, expected one: %q", len(calls), calls)
	}
}

func TestCancelledDownloadStops(t *testing.T) {
	m := newMachine(t)
	m.install("python3", "exec sleep 60")
	m.install("npm", "exit 0")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	started := time.Now()
	_, err := m.locator(pipPin(nil), npmPin(nil)).locate(ctx)
	if err == nil || !strings.Contains(err.Error(), "was stopped") {
		t.Errorf("got %v, expected a stopped download", err)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("stopping took %v", took)
	}
	for _, call := range m.calls() {
		if strings.HasPrefix(call, "npm") {
			t.Error("npm was tried after the caller had gone")
		}
	}
}

func TestWaitingForTheLockEnds(t *testing.T) {
	m := newMachine(t)
	check(t, os.MkdirAll(m.cache, 0o755))
	unlock, err := lock(t.Context(), filepath.Join(m.cache, ".lock"))
	check(t, err)
	l := m.locator(pipPin(nil))
	l.timeout = 100 * time.Millisecond
	if _, err := l.locate(t.Context()); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v, expected a refusal that names the lock", err)
	}
	unlock()
	again, err := lock(t.Context(), filepath.Join(m.cache, ".lock"))
	check(t, err)
	again()
}

func TestPins(t *testing.T) {
	hex64 := regexp.MustCompile(`^[0-9a-f]{64}$`)
	seen := map[string]bool{}
	for _, p := range pins {
		key := p.os + "/" + p.arch + " " + p.client
		if seen[key] {
			t.Errorf("%s is pinned twice", key)
		}
		seen[key] = true
		if !hex64.MatchString(p.archive.sha256) || !hex64.MatchString(p.library.sha256) || p.archive.bytes < 1<<20 || p.library.bytes < 1<<20 {
			t.Errorf("%s: malformed size or hash", key)
		}
		if _, ok := spellings[p.client]; !ok || p.client == "pip" && p.tag == "" {
			t.Errorf("%s: cannot be downloaded", key)
		}
		if !strings.Contains(p.file, p.version) || strings.Contains(p.file, "/") {
			t.Errorf("%s: the file name %q hides the version %s", key, p.file, p.version)
		}
	}
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64"} {
		if !seen[platform+" pip"] || !seen[platform+" npm"] {
			t.Errorf("%s cannot be served by either client", platform)
		}
	}
	if !seen[runtime.GOOS+"/"+runtime.GOARCH+" pip"] {
		t.Logf("%s/%s has no pin: these tests need %s here", runtime.GOOS, runtime.GOARCH, EnvPath)
	}
}
