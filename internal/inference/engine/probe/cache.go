package probe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
)

// Cache remembers reports on disk, so that a model is tried once for each
// runtime version and setting, not at each start. Refusals are not kept: the
// next start tries again.
type Cache struct {
	Dir     string // made on first use
	Runtime string // the engine's Version
	Log     *slog.Logger
}

// Get returns the remembered report on spec's model file, whose SHA-256 is
// given, else what try finds.
func (c Cache) Get(ctx context.Context, spec engine.Spec, sum string, try func(context.Context, engine.Spec) (Report, error)) (Report, error) {
	path := filepath.Join(c.Dir, c.key(spec, sum)+".json")
	if data, err := os.ReadFile(path); err == nil {
		var r Report
		if json.Unmarshal(data, &r) == nil && r.Reason != "" {
			return r, nil
		}
	}
	report, err := try(ctx, spec)
	if err != nil {
		return Report{}, err
	}
	if err := c.put(path, report); err != nil {
		c.Log.WarnContext(ctx, "cannot remember a model's probe; it will be tried again at the next start", "model", spec.Name, "error", err)
	}
	return report, nil
}

// probeVersion changes whenever the probe comes to find more.
const probeVersion = 3

// key covers everything that the report depends on. The ports are a part of
// it: a model's configuration can narrow what its file declares.
func (c Cache) key(spec engine.Spec, sum string) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d|%s|%q|%t|%d|%+v", probeVersion, sum, c.Runtime, spec.Batches, spec.MaxRows, spec.Execution)
	for _, ports := range [][]model.Port{spec.Signature.Inputs, spec.Signature.Outputs} {
		for _, p := range ports {
			_, _ = fmt.Fprintf(h, "|%q %s %s %q", p.Name, p.Datatype, p.Shape, p.Symbols)
		}
		_, _ = h.Write([]byte("||"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// put writes the file whole or not at all.
func (c Cache) put(path string, r Report) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.Dir, ".probe-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
