package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// Sluice is a running bin/api.
type Sluice struct {
	*Process
	HTTP, GRPC, Ops string
	Ready           time.Duration // from the start of the process to /readyz 200
}

// Config says how bin/api is started.
type Config struct {
	Binary     string
	Log        string   // file
	Data       string   // folder
	Repository string   // of models
	Env        []string // further settings
	Addrs      []string // HTTP, gRPC, operations; nil chooses free ones
}

const readyLimit = 60 * time.Second

// BuildSluice builds cmd/api into a file. It must run in the root of the
// repository.
func BuildSluice(ctx context.Context, file string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", file, "./cmd/api") // #nosec G204 -- fixed but for the caller's file
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/api: %w\n%s", err, text)
	}
	return nil
}

// StartSluice starts bin/api and waits until it is ready.
func StartSluice(ctx context.Context, cfg Config) (*Sluice, error) {
	addrs := cfg.Addrs
	if addrs == nil {
		var err error
		if addrs, err = FreeAddrs(3); err != nil {
			return nil, err
		}
	}
	s := &Sluice{HTTP: addrs[0], GRPC: addrs[1], Ops: addrs[2]}
	cmd := exec.Command(cfg.Binary) // #nosec G204 -- the server under test; Stop ends it
	cmd.Env = append(append(os.Environ(), "SLUICE_HTTP_ADDR="+addrs[0], "SLUICE_GRPC_ADDR="+addrs[1], "SLUICE_OPS_ADDR="+addrs[2],
		"SLUICE_DATA_DIR="+cfg.Data, "SLUICE_MODEL_REPOSITORY="+cfg.Repository), cfg.Env...)
	begin := time.Now()
	var err error
	if s.Process, err = Start(cmd, cfg.Log); err != nil {
		return nil, err
	}
	if err := s.Await(ctx, readyLimit, func(ctx context.Context) error { _, err := s.Get(ctx, "/readyz"); return err }); err != nil {
		stopped := s.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err() // nothing is wrong with it
		}
		return nil, fmt.Errorf("%w; the server's log ends:\n%s", errors.Join(err, stopped), s.Tail())
	}
	s.Ready = time.Since(begin)
	return s, nil
}

var opsClient = &http.Client{Timeout: 10 * time.Second}

// Get returns the body of a page of the operations listener. A status other
// than 200 is an error.
func (s *Sluice) Get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Ops+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := opsClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", path, resp.Status, body)
	}
	return string(body), err
}

// Metrics returns the server's metrics page.
func (s *Sluice) Metrics(ctx context.Context) (Metrics, error) {
	text, err := s.Get(ctx, "/metrics")
	return Metrics(text), err
}
