package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// libchdb is the package with ClickHouse's engine as a library. The one for Python
// has the engine, too, but not the C interface.
const (
	libchdb        = "@chdb/lib-linux-x64-gnu"
	libchdbVersion = "26.5.3"
	libchdbSHA256  = "4330da79405733f7572f27c1442f46c03a08301f00859dce0368645731b1e1dc" // of libchdb.so
)

var clickhousePorts = []int{41}

// addClickHouse adds the front of the ClickHouse engine, see tools/clickhouse: the
// engine itself, over HTTP alone.
func (s *set) addClickHouse() {
	addr, dir := loopback(s.base+clickhousePorts[0]), s.dir("clickhouse")
	s.add(&server{
		name:    "clickhouse",
		addr:    addr,
		install: s.place.installClickHouse,
		command: func(folder string) ([]string, error) {
			return []string{filepath.Join(folder, "front"), "-lib", filepath.Join(folder, "package", "libchdb.so"), "-data", filepath.Join(dir, "data"), "-addr", addr}, nil
		},
		ready: func(ctx context.Context) error { return clickhouseReady(ctx, addr) },
	})
	s.env = append(s.env, [2]string{"SLUICE_TEST_CLICKHOUSE_URL", "http://" + addr + "/default"})
}

func clickhouseReady(ctx context.Context, addr string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/?query=SELECT%201", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("answers " + resp.Status)
	}
	return nil
}

// checkDigest refuses a file that is not the one that was tried.
func checkDigest(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the SHA-256 %s, expected %s", filepath.Base(path), got, want)
	}
	return nil
}

// installClickHouse fetches the library, once, and builds the front in its folder.
func (p *place) installClickHouse(ctx context.Context) (string, error) {
	folder, err := p.installed("libchdb-"+libchdbVersion, func(target string) error {
		if _, err := exec.LookPath("npm"); err != nil {
			return fmt.Errorf("missing: npm, which fetches ClickHouse's engine\n  install it with: %s", install("npm", "npm"))
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		archive, err := p.output(ctx, "npm", "pack", "--silent", "--pack-destination", target, libchdb+"@"+libchdbVersion)
		if err != nil {
			return err
		}
		archive = filepath.Join(target, archive)
		if _, err := p.output(ctx, "tar", "-xzf", archive, "-C", target, "package/libchdb.so"); err != nil {
			return err
		}
		if err := checkDigest(filepath.Join(target, "package", "libchdb.so"), libchdbSHA256); err != nil {
			return err
		}
		return os.Remove(archive)
	})
	if err != nil {
		return "", err
	}
	_, err = p.output(ctx, "env", "CGO_ENABLED=0", "go", "build", "-C", "tools/clickhouse", "-trimpath", "-o", filepath.Join(folder, "front"), ".")
	return folder, err
}
