package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/loadtest/target"
)

// slo is the objective of the model that is overloaded: long against one run,
// so that the policy is tested and not the machine's scheduler.
const slo = time.Second

// overloadModel is the sample encoder under another configuration.
const overloadModel = "encoder"

// benchServer returns the server on the benchmark models, starting it at the
// first call.
func (b *bench) benchServer(ctx context.Context) (*target.Sluice, error) {
	if b.server != nil {
		return b.server, nil
	}
	repository := filepath.Join(b.dir, "models")
	for _, name := range []string{"tiny_mlp", "mid_mlp", "small_cnn", "transformer"} {
		if err := os.CopyFS(filepath.Join(repository, name), os.DirFS(modelDir(name))); err != nil {
			return nil, err
		}
	}
	encoder := filepath.Join(repository, overloadModel)
	if err := os.CopyFS(filepath.Join(encoder, "1"), os.DirFS(filepath.Join(modelDir(overloadModel), "1"))); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("max_batch_size: %d\nslo: %s\n", overloadRows, slo)
	if err := os.WriteFile(filepath.Join(encoder, "config.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	var err error
	b.server, err = b.start(ctx, "bench", repository, filepath.Join(b.dir, "bench-data"))
	return b.server, err
}

// modelDir is where the repository keeps a model.
func modelDir(name string) string {
	if name == overloadModel {
		return filepath.Join("models", name)
	}
	return filepath.Join("loadtest", "models", name)
}
