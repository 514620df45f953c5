package oipgrpc

import (
	"context"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// ModelStatistics reports what the live versions did: of all models, of one, or
// of one version. All groups are always there, since clients read them unasked.
func (s *Service) ModelStatistics(_ context.Context, req *pb.ModelStatisticsRequest) (*pb.ModelStatisticsResponse, error) {
	versions, err := s.versions(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	resp := &pb.ModelStatisticsResponse{}
	for _, v := range versions {
		resp.ModelStats = append(resp.ModelStats, statistics(v))
	}
	return resp, nil
}

func (s *Service) versions(name, version string) ([]*serve.Version, error) {
	if name == "" {
		var all []*serve.Version
		for _, name := range s.models.Names() {
			// A model that was unloaded since is simply no longer there.
			if versions, err := s.models.Versions(name); err == nil {
				all = append(all, versions...)
			}
		}
		return all, nil
	}
	if version != "" {
		v, err := s.models.Lookup(name, version)
		return []*serve.Version{v}, unavailable(name, err)
	}
	versions, err := s.models.Versions(name)
	return versions, unavailable(name, err)
}

// unavailable words an unknown model as the statistics extension does.
func unavailable(name string, err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Invalid, err, "requested model '%.200s' is not available", name)
	}
	return err
}

func statistics(v *serve.Version) *pb.ModelStatistics {
	s := v.Stats
	live := func(d *serve.Duration) *pb.StatisticDuration { return duration(d.Snapshot()) }
	stats := &pb.ModelStatistics{
		Name: v.Name, Version: v.Text,
		LastInference:  uint64(s.LastInference.Load()),
		InferenceCount: uint64(s.Inferences.Load()),
		ExecutionCount: uint64(s.Executions.Load()),
		InferenceStats: &pb.InferStatistics{
			Success: live(&s.Success), Fail: live(&s.Fail), Queue: live(&s.Queue),
			ComputeInput: live(&s.ComputeInput), ComputeInfer: live(&s.ComputeInfer), ComputeOutput: live(&s.ComputeOutput),
			CacheHit: &pb.StatisticDuration{}, CacheMiss: &pb.StatisticDuration{}, // there is no cache
		},
	}
	for b := range s.Batches() {
		beside := duration(serve.DurationSnapshot{Count: b.Runs.Count}) // requests are decoded and encoded outside of runs
		stats.BatchStats = append(stats.BatchStats, &pb.InferBatchStatistics{
			BatchSize: uint64(b.Rows), ComputeInput: beside, ComputeInfer: duration(b.Runs), ComputeOutput: beside,
		})
	}
	return stats
}

func duration(d serve.DurationSnapshot) *pb.StatisticDuration {
	return &pb.StatisticDuration{Count: uint64(d.Count), Ns: uint64(d.Nanos)}
}
