package serve

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/feature"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Features makes inputs from what is known of entities. *feature.Fetcher implements it.
type Features interface {
	Fetch(ctx context.Context, a feature.Ask) ([]feature.Filled, error)
}

// Accepts returns how many inputs a request has at most: those that clients give, and
// those that the server would fetch.
func (v *Version) Accepts() int {
	n := len(v.Signature.Inputs)
	if f := v.Config.Features; f != nil {
		n += len(f.Inputs)
	}
	return n
}

// NeedsHeaders reports whether a request without headers lacks an entity.
func (v *Version) NeedsHeaders() bool {
	f := v.Config.Features
	return f != nil && slices.ContainsFunc(f.Inputs, func(in model.FeatureInput) bool { return in.Entity.Header != "" })
}

// checkFeatures refuses a version that takes features where there are none.
func (s *Server) checkFeatures(v *Version) error {
	if v.Config.Features != nil && s.cfg.Features == nil {
		return fault.New(fault.Unsupported, "model '%s' takes features, and this server has no feature store: see features.url", v.Name).WithCode("features_off")
	}
	return nil
}

// fetch adds the inputs that the client has left to the server, and removes the entities.
// Features that the client sends are taken as they are, so that a request can be repeated
// with the same inputs.
func (s *Server) fetch(ctx context.Context, v *Version, c *call) error {
	f := v.Config.Features
	ask := feature.Ask{Tenant: c.request.Tenant, AsOf: c.request.AsOf, Timeout: f.Timeout, Lenient: f.OnFailure == model.FeatureDefault}
	if ask.AsOf.IsZero() {
		ask.AsOf = time.Now()
	}
	rows := 1
	for i := range c.request.Inputs {
		if v.Batches {
			rows = int(min(c.request.Inputs[i].Rows(), int64(v.MaxRows)+1)) // too many are refused with the entities
			break
		}
	}
	if rows > max(v.MaxRows, 1) {
		return fault.New(fault.Invalid, "inference request batch-size must be <= %d for '%s', got more", v.MaxRows, v.Name).WithCode("batch_too_large")
	}
	for i := range f.Inputs {
		in := &f.Inputs[i]
		if find(c.request.Inputs, in.Input) >= 0 {
			continue
		}
		entities, err := c.entities(ctx, v, in, rows)
		if err != nil {
			return err
		}
		ask.Wants = append(ask.Wants, feature.Want{FeatureInput: in, Port: &v.graph.Inputs[v.graph.Input(in.Input)], Batches: v.Batches, Entities: entities})
	}
	c.request.Inputs = slices.DeleteFunc(c.request.Inputs, func(t tensor.Tensor) bool { return f.Names(t.Name) })
	if len(ask.Wants) == 0 {
		return nil
	}
	memory := s.holding(c)
	ask.Reserve = func(n int64) error {
		err := memory.Acquire(n)
		if err == nil {
			c.fetched += n
		}
		return err
	}
	ask.Return = func(n int64) {
		memory.Return(n)
		c.fetched -= n
	}
	filled, err := s.cfg.Features.Fetch(ctx, ask)
	if err != nil {
		return err
	}
	for i := range filled {
		c.request.Inputs = append(c.request.Inputs, filled[i].Input)
		c.times = append(c.times, filled[i].Times)
	}
	return nil
}

// entities returns the entity that an input is about, for each row.
func (c *call) entities(ctx context.Context, v *Version, in *model.FeatureInput, rows int) ([]string, error) {
	e := &in.Entity
	if e.Header != "" {
		name := ""
		if a, ok := c.asker.codec.(Asking); ok {
			name = a.Value(ctx, experiment.Header, e.Header)
		}
		if name == "" || len(name) > feature.MaxEntity {
			return nil, lacking("the header %s has to have the entity that input '%s' of model '%s' is about, in 1 to %d bytes", e.Header, in.Input, v.Name, feature.MaxEntity)
		}
		return slices.Repeat([]string{name}, rows), nil
	}
	at := find(c.request.Inputs, e.Input)
	if at < 0 {
		return nil, lacking("input '%s' of model '%s' is missing: it has the entities that '%s' is about", e.Input, v.Name, in.Input)
	}
	t := &c.request.Inputs[at]
	if t.Datatype != e.Datatype {
		return nil, fault.New(fault.Invalid, "inference input '%s' data-type is '%s', but model '%s' expects '%s'", e.Input, t.Datatype, v.Name, e.Datatype)
	}
	if err := t.Validate(); err != nil {
		return nil, fault.New(fault.Invalid, "input '%s' for model '%s': %s", e.Input, v.Name, fault.Of(err).Message)
	}
	if n, err := t.Shape.Elements(); err != nil || n != int64(rows) {
		return nil, fault.New(fault.Invalid, "input '%s' for model '%s' has the shape %s, expected one element for each of %d rows", e.Input, v.Name, t.Shape, rows)
	}
	entities := make([]string, 0, rows)
	if t.Datatype == tensor.Int64 {
		for i := range rows {
			entities = append(entities, strconv.FormatInt(int64(binary.LittleEndian.Uint64(t.Data[8*i:])), 10))
		}
		return entities, nil
	}
	for element := range tensor.Elements(t.Data) {
		if len(element) == 0 || len(element) > feature.MaxEntity {
			return nil, lacking("an entity of input '%s' for model '%s' has %d bytes, expected 1 to %d", e.Input, v.Name, len(element), feature.MaxEntity)
		}
		entities = append(entities, string(element))
	}
	return entities, nil
}

func lacking(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("entity_missing")
}
