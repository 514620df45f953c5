package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"

	"golang.org/x/sync/errgroup"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/webhook"
)

// matchAll makes the deliveries of a wave of events. Should some come again, those
// that were made are there. Endpoints are read once for each tenant, after its
// events have come: none is judged by endpoints that are older than itself.
func (s *Service) matchAll(ctx context.Context, wave []queue.Message) error {
	tenants := map[string][]webhook.Endpoint{}
	var lanes [queue.MaxLanes][]want
	for i := range wave {
		m := &wave[i]
		tenant := m.Header[queue.HeaderTenant]
		if tenant == "" {
			continue // what belongs to the platform is nobody's to be told
		}
		endpoints, known := tenants[tenant]
		if !known {
			var err error
			if endpoints, err = s.endpoints(ctx, tenant); err != nil {
				return err
			}
			tenants[tenant] = endpoints
		}
		for j := range endpoints {
			if e := &endpoints[j]; e.Wants(m.Header[queue.HeaderType]) {
				lane := maphash.String(seed, m.Subject) % queue.MaxLanes
				lanes[lane] = append(lanes[lane], want{m, e})
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range lanes {
		if len(lane) > 0 {
			group.Go(func() error { return s.acceptAll(ctx, lane) })
		}
	}
	return group.Wait()
}

var seed = maphash.MakeSeed()

// want is an event that an endpoint wants to be told of.
type want struct {
	*queue.Message
	endpoint *webhook.Endpoint
}

// endpoints returns those that the tenant has now.
func (s *Service) endpoints(ctx context.Context, tenant string) (list []webhook.Endpoint, err error) {
	for e, err := range webhook.Endpoints.All(ctx, s.store.Read(repo.Scope{Tenant: tenant}), spec.Query[webhook.Endpoint]{}) {
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// acceptAll makes deliveries one after the other: a delivery that is made later is
// never of an earlier event of its subject. What would never be accepted keeps
// nothing up: it is counted, and told in the log.
func (s *Service) acceptAll(ctx context.Context, lane []want) error {
	for _, w := range lane {
		err := s.accept(ctx, w)
		switch {
		case err == nil:
		case fault.Is(err, fault.Invalid), fault.Is(err, fault.TooLarge):
			s.metrics.malformed.Inc()
			s.cfg.Log.ErrorContext(ctx, "an event cannot be told an endpoint", "event", w.ID, "sequence", w.Sequence, "endpoint", string(w.endpoint.ID), "error", err)
		default:
			return err
		}
	}
	return nil
}

func (s *Service) accept(ctx context.Context, w want) error {
	m, err := relay.Decode(w.Message)
	if err != nil || m.Time.Before(w.endpoint.CreatedAt) {
		return err
	}
	err = s.store.Do(ctx, scopeOf(&m), func(ctx context.Context, tx *repo.Tx) error {
		_, err := webhook.Accept(ctx, tx, w.endpoint.ID, &m)
		return err
	})
	if errors.Is(err, repo.ErrExists) {
		return nil
	}
	if err == nil {
		s.metrics.accepted.Inc()
	}
	return err
}

func scopeOf(m *repo.Message) repo.Scope {
	return repo.Scope{Tenant: m.Tenant, Actor: "system", Correlation: m.Correlation, Causation: m.ID, TraceParent: m.TraceParent}
}

// receiveOne takes one notice. What finds no room is announced again.
func (s *Service) receiveOne(_ context.Context, d queue.Delivery) error {
	m, err := relay.Decode(&d.Message)
	if err != nil {
		return err
	}
	var n webhook.Notice
	if err := json.Unmarshal(m.Data, &n); err != nil {
		return fault.Wrap(fault.Invalid, err, "the notice %s cannot be read", m.ID).WithCode("message_malformed")
	}
	s.offer(item{m.Tenant, n.Endpoint, webhook.DeliveryID(m.Key.ID)})
	return nil
}
