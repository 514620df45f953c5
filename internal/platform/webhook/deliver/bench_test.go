package deliver

import (
	"strconv"
	"testing"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/webhook"
)

// BenchmarkMatch is what every event of the platform costs, also where nobody
// wants to be told: events of a burst, and events that come one by one.
func BenchmarkMatch(b *testing.B) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	if err := store.Driver().Migrate(b.Context(), webhook.Schemas()); err != nil {
		b.Fatal(err)
	}
	s, err := New(store, nil, nil, nil, nil, Config{})
	if err != nil {
		b.Fatal(err)
	}
	for name, at := range map[string]time.Time{"burst": time.Now().Add(-time.Hour), "single": time.Now().Add(time.Hour)} {
		b.Run(name, func(b *testing.B) {
			q, err := relay.Encode(&repo.Message{ID: "evt_1", Key: repo.Key{Tenant: "acme", Kind: "things", ID: "t"}, Stream: repo.StreamEvents, Type: "thing.moved", Time: at, Data: []byte(`{}`)})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.matchOne(b.Context(), queue.NewDelivery(q, 1, nil)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLanes(b *testing.B) {
	ls := newLanes(limits{perTenant: 16, perEndpoint: 8, backlog: 1000})
	items := make([]item, 1000)
	for i := range items {
		items[i] = item{"t" + strconv.Itoa(i%10), webhook.EndpointID("e" + strconv.Itoa(i%100)), webhook.DeliveryID(strconv.Itoa(i))}
		ls.offer(items[i])
	}
	for b.Loop() {
		i, _ := ls.take()
		ls.done(i)
		ls.offer(i)
	}
}
