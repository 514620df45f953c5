package model

import "reflect"

// ResolveGraph is Resolve for a graph, whose signature is derived from the models
// that it uses: batches says that all of them batch, and maxRows how many rows they
// take. Settings of how a model is run have no effect, since each of its models has
// its own.
func ResolveGraph(cfg Config, sig Signature, batches bool, maxRows int) (Config, Signature, error) {
	d := Defaults{}.withDefaults()
	r := resolver{cfg: cfg.clone(), sig: Signature{Inputs: clonePorts(sig.Inputs), Outputs: clonePorts(sig.Outputs)}}
	switch size := r.cfg.MaxBatchSize; {
	case cfg.Sequence != nil || cfg.Generate != nil:
		return Config{}, Signature{}, r.errorf("a graph neither keeps state nor generates: leave sequence and generate out")
	case cfg.Features != nil:
		return Config{}, Signature{}, r.errorf("a graph takes no features of its own: leave features out, and have its models take them")
	case size == nil:
		r.cfg.MaxBatchSize = &maxRows
	case !batches && *size > 0:
		return Config{}, Signature{}, r.errorf("max_batch_size %d needs models that batch, all of them", *size)
	case *size > maxRows || batches && *size == 0:
		return Config{}, Signature{}, r.errorf("max_batch_size must be 1 to %d, as many rows as every model of the graph takes, got %d", maxRows, *size)
	}
	for _, setting := range []struct {
		name  string
		given bool
	}{
		{"slo", cfg.SLO != 0}, {"batching", cfg.Batching != nil || cfg.NoBatching},
		{"execution", !reflect.ValueOf(cfg.Execution).IsZero()}, {"warmup", len(cfg.Warmup) > 0},
	} {
		if setting.given {
			r.cfg.Warnings = append(r.cfg.Warnings, r.errorf("%s: has no effect: the models of a graph have their own", setting.name).Error())
		}
	}
	r.cfg.Batching, r.cfg.NoBatching, r.cfg.Execution, r.cfg.Warmup = nil, false, Execution{}, nil
	if err := r.ports(d); err != nil {
		return Config{}, Signature{}, err
	}
	r.fill(d)
	r.cfg.Platform, r.cfg.Filename = PlatformGraph, GraphFilename
	return r.cfg, r.sig, nil
}
