package oip

import (
	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// modelStats is one version in the statistics extension. Clients read its
// groups without asking whether they are there: all always are.
type modelStats struct {
	Name           string              `json:"name"`
	Version        string              `json:"version"`
	LastInference  int64               `json:"last_inference"` // Unix milliseconds
	InferenceCount int64               `json:"inference_count"`
	ExecutionCount int64               `json:"execution_count"`
	InferenceStats inferenceStats      `json:"inference_stats"`
	ResponseStats  map[string]struct{} `json:"response_stats"` // of decoupled models only
	BatchStats     []batchStats        `json:"batch_stats"`
	MemoryUsage    []struct{}          `json:"memory_usage"`
}

type inferenceStats struct {
	Success       statDuration `json:"success"`
	Fail          statDuration `json:"fail"`
	Queue         statDuration `json:"queue"`
	ComputeInput  statDuration `json:"compute_input"`
	ComputeInfer  statDuration `json:"compute_infer"`
	ComputeOutput statDuration `json:"compute_output"`
	CacheHit      statDuration `json:"cache_hit"` // there is no cache
	CacheMiss     statDuration `json:"cache_miss"`
}

type batchStats struct {
	BatchSize     int          `json:"batch_size"`
	ComputeInput  statDuration `json:"compute_input"`
	ComputeInfer  statDuration `json:"compute_infer"`
	ComputeOutput statDuration `json:"compute_output"`
}

type statDuration struct {
	Count int64 `json:"count"`
	Nanos int64 `json:"ns"`
}

func (a *rest) allStats(c echo.Context) error {
	var all []*serve.Version
	for _, name := range a.models.Names() {
		// A model that was unloaded since is simply no longer there.
		if versions, err := a.models.Versions(name); err == nil {
			all = append(all, versions...)
		}
	}
	return writeStats(c, all)
}

func (a *rest) modelStats(c echo.Context) error {
	name, version := target(c)
	var versions []*serve.Version
	var err error
	if version == "" {
		versions, err = a.models.Versions(name)
	} else {
		var v *serve.Version
		v, err = a.models.Lookup(name, version)
		versions = []*serve.Version{v}
	}
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Invalid, err, "requested model '%.200s' is not available", name)
	}
	if err != nil {
		return err
	}
	return writeStats(c, versions)
}

func writeStats(c echo.Context, versions []*serve.Version) error {
	list := make([]modelStats, len(versions))
	for i, v := range versions {
		list[i] = statsOf(v)
	}
	return writeJSON(c, struct {
		ModelStats []modelStats `json:"model_stats"`
	}{list})
}

func statsOf(v *serve.Version) modelStats {
	s := v.Stats
	live := func(d *serve.Duration) statDuration { return statDuration(d.Snapshot()) }
	stats := modelStats{
		Name: v.Name, Version: v.Text,
		LastInference: s.LastInference.Load(), InferenceCount: s.Inferences.Load(), ExecutionCount: s.Executions.Load(),
		InferenceStats: inferenceStats{
			Success: live(&s.Success), Fail: live(&s.Fail), Queue: live(&s.Queue),
			ComputeInput: live(&s.ComputeInput), ComputeInfer: live(&s.ComputeInfer), ComputeOutput: live(&s.ComputeOutput),
		},
		ResponseStats: map[string]struct{}{}, BatchStats: []batchStats{}, MemoryUsage: []struct{}{},
	}
	for b := range s.Batches() {
		beside := statDuration{Count: b.Runs.Count} // requests are decoded and encoded outside of runs
		stats.BatchStats = append(stats.BatchStats,
			batchStats{b.Rows, beside, statDuration(b.Runs), beside})
	}
	return stats
}
