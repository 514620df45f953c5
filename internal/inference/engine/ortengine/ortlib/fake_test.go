package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	zipMember = "onnxruntime/capi/libonnxruntime.so.9.9.9"
	tarMember = "package/bin/linux/libonnxruntime.so.1"
)

// library is the content of the fake library.
var library = bytes.Repeat([]byte("not really an ELF file\n"), 10_000)

func sizedOf(b []byte) sized {
	sum := sha256.Sum256(b)
	return sized{int64(len(b)), hex.EncodeToString(sum[:])}
}

func zipOf(t *testing.T, member string, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range []struct {
		name string
		body []byte
	}{{"onnxruntime/__init__.py", []byte("x")}, {member, content}} {
		w, err := z.Create(f.name)
		check(t, err)
		_, err = w.Write(f.body)
		check(t, err)
	}
	check(t, z.Close())
	return buf.Bytes()
}

func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, h := range headers {
		h.Mode = 0o644
		check(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := w.Write(library[:h.Size])
			check(t, err)
		}
	}
	check(t, w.Close())
	check(t, gz.Close())
	return buf.Bytes()
}

func goodTar(t *testing.T) []byte {
	return tarOf(t,
		tar.Header{Name: "package/README.md", Typeflag: tar.TypeReg, Size: 10},
		tar.Header{Name: tarMember, Typeflag: tar.TypeReg, Size: int64(len(library))})
}

func pipPin(archive []byte) pin {
	return pin{
		client: "pip", version: "9.9.9", os: "linux", arch: "amd64", tag: "manylinux_9_9_x86_64",
		archive: sizedOf(archive), member: zipMember, file: "libonnxruntime.so.9.9.9", library: sizedOf(library),
	}
}

func npmPin(archive []byte) pin {
	return pin{
		client: "npm", version: "8.8.8", os: "linux", arch: "amd64",
		archive: sizedOf(archive), member: tarMember, file: "libonnxruntime.so.8.8.8", library: sizedOf(library),
	}
}

// machine is a computer with fake package managers and nothing else on PATH.
type machine struct {
	t        *testing.T
	bin, log string
	cache    string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, bin: filepath.Join(dir, "bin"), log: filepath.Join(dir, "calls"), cache: filepath.Join(dir, "cache")}
	check(t, os.Mkdir(m.bin, 0o755))
	t.Setenv("PATH", m.bin)
	return m
}

// install puts a program on the machine: its body runs for everything but
// --version, after its arguments went to the log.
func (m *machine) install(name, body string) {
	m.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nPATH=/usr/bin:/bin\ncase \"$*\" in *--version) exit 0;; esac\necho \"%s $*\" >>'%s'\n%s\n", name, m.log, body)
	check(m.t, os.WriteFile(filepath.Join(m.bin, name), []byte(script), 0o755))
}

// broken puts a program on the machine that cannot even tell its version.
func (m *machine) broken(name string) {
	m.t.Helper()
	check(m.t, os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\necho No module named pip >&2\nexit 1\n"), 0o755))
}

// delivers is a program's body that leaves the archive where it was called.
func (m *machine) delivers(name string, archive []byte) string {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), name)
	check(m.t, os.WriteFile(path, archive, 0o644))
	return "cp '" + path + "' ."
}

// calls returns the logged calls, one a line.
func (m *machine) calls() []string {
	m.t.Helper()
	b, err := os.ReadFile(m.log)
	if os.IsNotExist(err) {
		return nil
	}
	check(m.t, err)
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func (m *machine) locator(pins ...pin) *locator {
	m.t.Helper()
	l, err := newLocator(Config{CacheDir: m.cache, Logger: slog.New(slog.NewTextHandler(m.t.Output(), nil))}, "linux", "amd64", pins)
	check(m.t, err)
	return l
}

// find locates the library and requires the right one.
func (m *machine) find(pins ...pin) string {
	m.t.Helper()
	path, err := m.locator(pins...).locate(m.t.Context())
	check(m.t, err)
	got, err := os.ReadFile(path)
	check(m.t, err)
	if !bytes.Equal(got, library) {
		m.t.Fatalf("%s is not the library", path)
	}
	return path
}

// fails locates the library, requires an error with all the texts in it, and
// requires that nothing was left in the cache but the lock.
func (m *machine) fails(want []string, pins ...pin) {
	m.t.Helper()
	path, err := m.locator(pins...).locate(m.t.Context())
	if err == nil {
		m.t.Fatalf("found %s, expected an error", path)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			m.t.Errorf("error %q does not say %q", err, text)
		}
	}
	check(m.t, filepath.Walk(m.cache, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && info.Name() != ".lock" {
			m.t.Errorf("%s was left behind", path)
		}
		return err
	}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
