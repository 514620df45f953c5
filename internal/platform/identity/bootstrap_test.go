package identity

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
)

func TestFirstStartMakesAKey(t *testing.T) {
	for name, c := range map[string]struct {
		keys     int
		create   error
		taken    bool // the file exists already
		made     bool
		file     bool // there is a file afterwards
		refusing fault.Kind
		fails    bool
	}{
		"new installation":   {made: true, file: true},
		"not the first":      {keys: 1},
		"another node won":   {create: fault.New(fault.Conflict, "exists")},
		"store away":         {create: fault.New(fault.Unavailable, "away"), file: true, fails: true, refusing: fault.Unavailable},
		"unknown outcome":    {create: context.DeadlineExceeded, file: true, fails: true, refusing: fault.DeadlineExceeded},
		"refused":            {create: fault.New(fault.Invalid, "wrong"), fails: true, refusing: fault.Invalid},
		"file of before":     {taken: true, file: true, fails: true, refusing: fault.Conflict},
		"not the first, too": {keys: 7, taken: true, file: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "first.key")
			if c.taken {
				if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var created apikey.Key
			key, made, err := Bootstrap{
				Count:  func(context.Context) (int, error) { return c.keys, nil },
				Create: func(_ context.Context, k apikey.Key) error { created = k; return c.create },
				Random: rand.Reader, File: path,
			}.Run(t.Context())
			if made != c.made || (err != nil) != c.fails || c.fails && !fault.Is(err, c.refusing) {
				t.Fatalf("made %t, %v", made, err)
			}
			if made && key != created || !made && key != (apikey.Key{}) {
				t.Errorf("returned %v, stored %v", key, created)
			}
			content, err := os.ReadFile(path)
			if (err == nil) != c.file {
				t.Errorf("file: %v", err)
			}
			if c.taken && string(content) != "old" {
				t.Error("the file was replaced")
			}
			if c.made {
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm() != 0o600 || strings.TrimSpace(string(content)) != key.Secret.Reveal() {
					t.Errorf("%v %q, %v", info.Mode(), content, err)
				}
			}
		})
	}
}

func TestBootstrapFailsWithItsParts(t *testing.T) {
	away := fault.New(fault.Unavailable, "away")
	b := Bootstrap{
		Count:  func(context.Context) (int, error) { return 0, away },
		Create: func(context.Context, apikey.Key) error { t.Error("created without a count"); return nil },
		Random: rand.Reader,
	}
	if _, made, err := b.Run(t.Context()); made || !fault.Is(err, fault.Unavailable) {
		t.Errorf("%t, %v", made, err)
	}
	b.Count = func(context.Context) (int, error) { return 0, nil }
	b.Random = strings.NewReader("")
	if _, made, err := b.Run(t.Context()); made || err == nil {
		t.Errorf("a key without randomness: %v", err)
	}
	b.Random, b.File = rand.Reader, filepath.Join(t.TempDir(), "none", "first.key")
	if _, made, err := b.Run(t.Context()); made || err == nil {
		t.Errorf("a key whose file could not be written: %v", err)
	}
}
