package ortlib

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever a client delivers, only the pinned bytes reach the cache.
func TestWrongDownloadsAreRefused(t *testing.T) {
	good := zipOf(t, zipMember, library)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	other := bytes.Clone(library)
	other[100] ^= 1
	tests := []struct {
		name      string
		delivered []byte
		pin       pin
		want      string
	}{
		{"one bit flipped", flipped, pipPin(good), "is not the pinned package: its SHA-256"},
		{"truncated", good[:len(good)-1], pipPin(good), "bytes, expected"},
		{"one byte more", append(bytes.Clone(good), 0), pipPin(good), "is larger than"},
		{"empty", nil, pipPin(good), "it has 0 bytes"},
		{"no archive at all", []byte("<html>"), pipPin([]byte("<html>")), "not a valid zip"},
		{"no library inside", zipOf(t, "else.so", library), pipPin(zipOf(t, "else.so", library)), "holds no " + zipMember},
		{"another library inside", zipOf(t, zipMember, other), pipPin(zipOf(t, zipMember, other)), "is not the pinned library: its SHA-256"},
		{"a bomb inside", bomb(t), pipPin(bomb(t)), "is not the pinned library: it is larger"},
		{"a short library inside", zipOf(t, zipMember, library[:9]), pipPin(zipOf(t, zipMember, library[:9])), "it has 9 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.install("python3", m.delivers("onnxruntime.whl", tt.delivered))
			m.fails([]string{tt.want}, tt.pin)
		})
	}
}

func bomb(t *testing.T) []byte { return zipOf(t, zipMember, make([]byte, 4<<20)) }

func TestWrongTarballsAreRefused(t *testing.T) {
	good := goodTar(t)
	link := tarOf(t, tar.Header{Name: tarMember, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
	outside := tarOf(t, tar.Header{Name: "../" + tarMember, Typeflag: tar.TypeReg, Size: 10})
	for name, tt := range map[string]struct {
		delivered []byte
		want      string
	}{
		"cut in the middle": {good[:len(good)/2], "unexpected EOF"},
		"not compressed":    {library, "gzip: invalid header"},
		"a link":            {link, "holds no " + tarMember},
		"another path":      {outside, "holds no " + tarMember},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.install("npm", m.delivers("onnxruntime-node.tgz", tt.delivered))
			m.fails([]string{tt.want}, npmPin(tt.delivered))
		})
	}
}

func TestClientThatLeavesNotOneFile(t *testing.T) {
	wheel := zipOf(t, zipMember, library)
	for name, body := range map[string]string{"none": "exit 0", "two": "touch a b", "a folder": "mkdir a"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.install("python3", body)
			m.fails([]string{"expected one package"}, pipPin(wheel))
		})
	}
}

// Whatever happened to a cached library, what Locate returns is the right one.
func TestDamagedCacheIsReplaced(t *testing.T) {
	wheel := zipOf(t, zipMember, library)
	for name, damage := range map[string]func(path string) error{
		"cut short": func(path string) error { return os.Truncate(path, 10) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"overwritten": func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte("x"), len(library)), 0o755)
		},
		"stamp of another file": func(path string) error {
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), len(library)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(stampPath(path), []byte("anything"), 0o600)
		},
		"removed": os.Remove,
		"a link": func(path string) error {
			if err := os.Rename(path, path+".moved"); err != nil {
				return err
			}
			return os.Symlink(path+".moved", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.install("python3", m.delivers("onnxruntime.whl", wheel))
			path := m.find(pipPin(wheel))
			check(t, damage(path))
			if again := m.find(pipPin(wheel)); again != path {
				t.Errorf("found %s, expected %s", again, path)
			}
			if calls := m.calls(); len(calls) != 2 {
				t.Errorf("%d downloads, expected two", len(calls))
			}
		})
	}
}

func TestUntouchedLibraryIsNotFetchedAgain(t *testing.T) {
	wheel := zipOf(t, zipMember, library)
	for name, change := range map[string]func(path string) error{
		"no stamp":     func(path string) error { return os.Remove(stampPath(path)) },
		"another time": func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"bad stamp":    func(path string) error { return os.WriteFile(stampPath(path), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.install("python3", m.delivers("onnxruntime.whl", wheel))
			path := m.find(pipPin(wheel))
			check(t, change(path))
			m.find(pipPin(wheel))
			if calls := m.calls(); len(calls) != 1 {
				t.Errorf("%d downloads, expected one", len(calls))
			}
		})
	}
}

func TestLeftoversOfKilledDownloadsGo(t *testing.T) {
	m := newMachine(t)
	wheel := zipOf(t, zipMember, library)
	stale := filepath.Join(m.cache, "9.9.9-linux-amd64", workPrefix+"123")
	check(t, os.MkdirAll(stale, 0o755))
	check(t, os.WriteFile(filepath.Join(stale, "half.whl"), library, 0o644))
	m.install("python3", m.delivers("onnxruntime.whl", wheel))
	m.find(pipPin(wheel))
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", stale, err)
	}
}
