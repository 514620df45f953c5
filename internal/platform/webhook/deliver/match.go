package deliver

import (
	"context"
	"encoding/json"
	"errors"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
)

// matchOne makes the deliveries of one event. Should it come again, those that it
// has made already are there.
func (s *Service) matchOne(ctx context.Context, d queue.Delivery) error {
	m, err := relay.Decode(&d.Message)
	if err != nil || m.Tenant == "" {
		return err // what belongs to the platform is nobody's to be told
	}
	endpoints, err := s.known.of(ctx, m.Tenant, m.Time)
	if err != nil {
		return err
	}
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Wants(m.Type) || m.Time.Before(e.CreatedAt) {
			continue
		}
		err := s.store.Do(ctx, scopeOf(&m), func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Accept(ctx, tx, e.ID, &m)
			return err
		})
		if errors.Is(err, repo.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		s.metrics.accepted.Inc()
	}
	return nil
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
