package serve

import (
	"context"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/model"
	"sluice/internal/platform/access"
)

// Predict takes one request from its wire form to its answer: route, decode, check, batch
// and run, encode. It writes no errors: that is up to the edge. Everything it uses comes
// from pools and goes back to them.
func (s *Server) Predict(ctx context.Context, codec Codec) error {
	c := newCall()
	defer c.free()
	return s.predict(ctx, codec, c)
}

func (s *Server) predict(ctx context.Context, codec Codec, c *call) (err error) {
	name, version, asking := c.ask(ctx, codec)
	chosen, err := s.acquire(ctx, name, version, asking)
	if err != nil {
		s.metrics.unrouted.Inc()
		return err
	}
	v := chosen.Value
	defer v.release()
	v.Stats.Pending.Add(1)
	defer v.Stats.Pending.Add(-1)

	start := time.Now()
	defer func() { meter(&chosen, c, start, err) }()
	c.request.Choice = recorded(&chosen)
	p, known := access.From(ctx)
	err = s.decode(ctx, codec, v, p, c, start)
	if known && c.request.Tenant == "" {
		c.request.Tenant = p.Tenant // whose share it is admitted by, and who owns its entry in the log
	}
	if err != nil {
		return v.refused(ctx, start, c, err)
	}
	if c.request.Class == batcher.Online && !c.inner {
		s.cfg.CPU.Begin()
		defer s.cfg.CPU.End()
	}
	s.before(&chosen, c.request.Choice)
	if v.Config.Features != nil {
		if err := s.fetch(ctx, v, c); err != nil {
			return v.refused(ctx, start, c, err)
		}
	}
	if err := c.arrange(v); err != nil {
		return v.refused(ctx, start, c, err)
	}
	decoded := time.Now()
	since := start
	if v.Stateful() { // a step waits for its turn while it is decoded: its time begins after that
		since = decoded
	}
	c.schedule(v, since, decoded)
	ran, err := s.compute(ctx, v, c)
	if err != nil {
		err = v.refused(ctx, start, c, err)
		if v.Config.Fallback != (model.Fallback{}) && overloaded(err) {
			return s.fallBack(ctx, codec, &chosen, c, start, decoded, err)
		}
		return err
	}
	if err := s.reply(ctx, codec, v, c, start, decoded, ran); err != nil {
		return err
	}
	if chosen.Shadowed() {
		s.shadows.offer(ctx, v, &chosen, c)
	}
	return nil
}

// reply encodes a version's answer, and counts it.
func (s *Server) reply(ctx context.Context, codec Codec, v *Version, c *call, start, decoded time.Time, ran batcher.Timing) error {
	settled := time.Now()
	v.identify(start, c)
	c.answer(v, Timing{Decode: decoded.Sub(start), Queue: ran.Queue, Infer: ran.Run, BatchRows: ran.Rows})
	if err := codec.Encode(ctx, v, &c.response); err != nil {
		return v.refused(ctx, start, c, err)
	}
	c.response.Timing.Encode = time.Since(settled)
	v.succeeded(ctx, start, c)
	if s.cfg.Used != nil && c.request.Class == batcher.Online && !c.inner {
		s.cfg.Used(ctx, v, settled, c.response.Use)
	}
	return nil
}

// compute runs the version's model, or its graph.
func (s *Server) compute(ctx context.Context, v *Version, c *call) (batcher.Timing, error) {
	if v.runtime.graph != nil {
		return s.runGraph(ctx, v, c)
	}
	return v.runtime.batcher.Submit(ctx, &c.task)
}
