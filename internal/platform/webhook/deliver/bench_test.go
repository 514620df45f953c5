package deliver

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/webhook"
)

// BenchmarkMatch is what a wave of events costs where nobody wants to be told of
// them, by the number of events.
func BenchmarkMatch(b *testing.B) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	if err := store.Driver().Migrate(b.Context(), webhook.Schemas()); err != nil {
		b.Fatal(err)
	}
	s, err := New(store, nil, nil, nil, nil, nil, Config{})
	if err != nil {
		b.Fatal(err)
	}
	q, err := relay.Encode(&repo.Message{ID: "evt_1", Key: repo.Key{Tenant: "acme", Kind: "things", ID: "t"}, Stream: repo.StreamEvents, Type: "thing.moved", Time: time.Now(), Data: []byte(`{}`)})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 64, wave} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			events := slices.Repeat([]queue.Message{q}, n)
			for b.Loop() {
				if err := s.matchAll(b.Context(), events); err != nil {
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
