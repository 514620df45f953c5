package serve

import (
	"context"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// largeBody is the size from which requests are decoded one after the other on each
// core. Decoding that many bytes of JSON takes some tens of microseconds.
const largeBody = 16 << 10

// decode has the codec decode the request, unless its refusal is foreseen. Reading a large
// request can cost as much as answering it: in overload that time would be missing for
// accepted requests, and large ones that are decoded at once would wait for each other.
func (s *Server) decode(ctx context.Context, codec Codec, v *Version, p *access.Principal, c *call, start time.Time) error {
	large := v.foreseeable(codec)
	if large < 0 {
		return codec.Decode(ctx, v, &c.request)
	}
	tenant := ""
	if p != nil {
		tenant = p.Tenant
	}
	b := v.runtime.batcher
	if err := b.Foresee(tenant, start); err != nil {
		return err
	}
	if large < largeBody {
		return codec.Decode(ctx, v, &c.request)
	}
	select {
	case s.decoding <- struct{}{}:
	default:
		select {
		case s.decoding <- struct{}{}:
		case <-ctx.Done():
			return fault.Of(context.Cause(ctx))
		}
		if err := b.Foresee(tenant, start); err != nil { // it has waited
			<-s.decoding
			return err
		}
	}
	defer func() { <-s.decoding }()
	return codec.Decode(ctx, v, &c.request)
}

// Foresee implements Foreseer. Its refusals are counted and recorded as those of Predict.
func (s *Server) Foresee(ctx context.Context, codec Codec) error {
	c := newCall()
	defer c.free()
	name, version, asking := c.ask(ctx, codec)
	chosen, err := s.table.Load().Pick(name, version, asking)
	v := chosen.Value
	if err != nil || !v.acquire() {
		return nil // Predict has the error
	}
	defer v.release()
	if v.foreseeable(codec) < 0 {
		return nil
	}
	if p, known := access.From(ctx); known {
		c.request.Tenant = p.Tenant
	}
	start := time.Now()
	if err = v.runtime.batcher.Foresee(c.request.Tenant, start); err == nil {
		return nil
	}
	c.request.Choice = recorded(&chosen)
	meter(&chosen, c, start, err)
	return v.refused(ctx, start, c, err)
}

// foreseeable returns the size of a request whose refusal can be foreseen. It is -1 for
// requests that may wait, have to wait for a turn, or go to a fallback in overload.
func (v *Version) foreseeable(codec Codec) int {
	o, ok := codec.(Online)
	if !ok || v.runtime.batcher == nil || v.Config.Fallback != (model.Fallback{}) || v.Stateful() {
		return -1
	}
	return o.Online()
}
