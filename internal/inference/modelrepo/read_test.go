package modelrepo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/internal/platform/fault"
)

func TestRead(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", readChunk/16) + "tail"
	r, dir := open(t, map[string]string{"m/1/model.onnx": "one", "m/2/model.onnx": "", "m/3/model.onnx": big, "m/config.yaml": "version_policy: {all: true}"})
	e := scan(t, r)["m"]
	for version, want := range map[int64]string{1: "one", 2: "", 3: big} {
		if got, err := r.Read(t.Context(), e, version); err != nil || string(got) != want {
			t.Errorf("version %d: %d bytes, %v", version, len(got), err)
		}
	}
	if _, err := r.Read(t.Context(), e, 4); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing version: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Read(ctx, e, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	small, _ := Open(dir, Limits{ModelBytes: 3})
	if _, err := small.Read(t.Context(), e, 1); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := small.Read(t.Context(), e, 3); !fault.Is(err, fault.TooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}

// A file that is no longer the one that the entry was made from is not served
// under the entry's name.
func TestReadNoticesChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grown":   func(path string) error { return os.WriteFile(path, []byte("longer than before"), 0o644) },
		"shrunk":  func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
		"touched": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			later := info.ModTime().Add(1)
			return os.Chtimes(path, later, later)
		},
		"replaced": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", []byte("eno"), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := open(t, map[string]string{"m/1/model.onnx": "one"})
			e := scan(t, r)["m"]
			if err := change(filepath.Join(dir, "m/1/model.onnx")); err != nil {
				t.Fatal(err)
			}
			if data, err := r.Read(t.Context(), e, 1); !fault.Is(err, fault.Conflict) {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

func TestReadExactly(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, c := range []struct {
		name string
		in   io.Reader
		size int64
		err  error
	}{
		{"exact", strings.NewReader("abc"), 3, nil},
		{"one byte at a time", iotest.OneByteReader(strings.NewReader("abc")), 3, nil},
		{"data with EOF", iotest.DataErrReader(strings.NewReader("abc")), 3, nil},
		{"empty", strings.NewReader(""), 0, nil},
		{"short", strings.NewReader("ab"), 3, errSize},
		{"long", strings.NewReader("abcd"), 3, errSize},
		{"grown from empty", strings.NewReader("a"), 0, errSize},
		{"broken", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken)), 3, broken},
		{"broken at the end", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 3, broken},
	} {
		got, err := readExactly(t.Context(), c.in, c.size)
		if !errors.Is(err, c.err) || err == nil && !bytes.Equal(got, []byte("abc")[:c.size]) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}
