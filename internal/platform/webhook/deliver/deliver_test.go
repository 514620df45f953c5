package deliver

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.move("acme", "early") // before anybody wanted to know
		time.Sleep(time.Second)
		b.endpoint("acme", "all", "*")
		b.endpoint("acme", "things", "thing.*")
		b.endpoint("acme", "none", "batch.completed")
		b.endpoint("rival", "spy", "*")
		stop := b.start(2)
		time.Sleep(time.Second)
		for range 3 {
			b.move("acme", "t1")
		}
		b.move("rival", "theirs")
		time.Sleep(time.Second)
		stop()
		var subjects []string
		for i, d := range b.deliveries("acme", "things") {
			var body webhook.Body
			if err := json.Unmarshal(d.Body, &body); err != nil || d.Status != webhook.Delivered || d.Attempt != 1 || d.Attempts[0].Status != 200 {
				t.Errorf("%+v, %v", d, err)
			}
			subjects = append(subjects, body.Data.ID)
			if body.Data.Sequence != int64(i+1) || string(body.Data.Event) != fmt.Sprintf(`{"n":%d}`, i+1) || body.Type != "thing.moved" {
				t.Errorf("event %d is %s", i, d.Body)
			}
		}
		if fmt.Sprint(subjects) != "[t1 t1 t1]" || len(b.deliveries("acme", "none")) != 0 {
			t.Errorf("told of %v", subjects)
		}
		if spied := b.deliveries("rival", "spy"); len(spied) != 2 || len(b.deliveries("acme", "spy")) != 0 { // itself and the thing
			t.Errorf("rival is told of %+v", spied)
		}
		posts := b.sender.to("things")
		if len(posts) != 3 || posts[0].ID == posts[1].ID || len(b.sender.to("spy")) != 2 {
			t.Errorf("sent %v", posts)
		}
		for _, p := range posts {
			e := b.find("things")
			if want, err := e.Sign(ring, p.ID, p.Time, p.Body); p.Signature != want || err != nil || p.ID[:4] != "evt_" {
				t.Errorf("%+v is not signed, %v", p, err)
			}
		}
	})
}

// Receivers that fail, processes that stop in the middle, a queue that loses
// everything and repeats: each endpoint gets each event, under one id, with one
// body, until it has said that it has it.
func TestNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.cfg.Drain = 2 * time.Second
		b.endpoint("acme", "good", "thing.*")
		b.endpoint("acme", "flaky", "thing.*")
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		accepted := map[string]int{}
		b.sender.answer = func(ctx context.Context, m send.Message) webhook.Result {
			mu.Lock()
			fails, wait := m.URL == "https://flaky.example/" && random.IntN(4) == 0, time.Duration(random.IntN(4000))*time.Millisecond
			mu.Unlock()
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return webhook.Result{Class: webhook.Interrupted}
			}
			if fails {
				return webhook.Result{Status: 500, Class: webhook.BadStatus}
			}
			mu.Lock()
			accepted[m.URL+" "+m.ID]++
			mu.Unlock()
			return webhook.Result{Status: 200}
		}
		for round := range 6 {
			stop := b.start(2)
			for n := range 10 {
				b.move("acme", thingID(fmt.Sprint("t", n%3)))
			}
			time.Sleep(time.Duration(1+round*4) * time.Second)
			stop()
			if round%2 == 0 {
				time.Sleep(time.Second)
				b.drained() // what the relay had not published is in the store
				b.newQueue()
			}
		}
		stop := b.start(2)
		time.Sleep(30 * time.Hour)
		stop()
		for _, endpoint := range []webhook.EndpointID{"good", "flaky"} {
			seen := map[string]int64{}
			for _, d := range b.deliveries("acme", endpoint) {
				seen[d.Subject]++
				if d.Status != webhook.Delivered || d.Sequence != seen[d.Subject] {
					t.Errorf("%s: %s %d is %s after %+v", endpoint, d.Subject, d.Sequence, d.Status, d.Attempts)
				}
			}
			if seen["t0"]+seen["t1"]+seen["t2"] != 60 {
				t.Errorf("%s was told of %v", endpoint, seen)
			}
		}
		if len(accepted) != 120 {
			t.Errorf("%d of 120 were accepted", len(accepted))
		}
		bodies := map[string]string{}
		for _, p := range b.sender.to("example") {
			key := p.URL + p.ID
			if before, ok := bodies[key]; ok && before != string(p.Body) {
				t.Errorf("%s was sent with another body", key)
			}
			bodies[key] = string(p.Body)
		}
	})
}

// drained waits until events have become deliveries: the outbox keeps nothing
// here, so a queue that is lost takes those along that are in it.
func (b *bed) drained() {
	stop := b.start(1)
	time.Sleep(time.Minute)
	stop()
}

// An event that comes again makes no second delivery.
func TestRepeatedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		defer b.start(3)()
		m := repo.Message{ID: "evt_1", Key: repo.Key{Tenant: "acme", Kind: "things", ID: "t"}, Sequence: 1, Stream: repo.StreamEvents, Type: "thing.moved", Version: 1, Time: time.Now(), Data: []byte(`{}`)}
		for range 5 {
			q, err := relay.Encode(&m)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.queue.Publish(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute) // longer than the queue remembers ids
		}
		if posts := b.sender.to("e"); len(posts) != 1 || b.one("e").Status != webhook.Delivered {
			t.Errorf("sent %d times", len(posts))
		}
	})
}

// A message that is none keeps nothing up, and is not lost silently: a notice becomes
// a dead letter, an event is counted and stays in its stream.
func TestMalformedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		defer b.start(1)()
		for i, subject := range []string{"events.acme.things.1", "webhooks.acme.webhook_deliveries.1"} {
			header := queue.Header{queue.HeaderTenant: "acme", queue.HeaderType: "thing.moved"}
			if err := b.queue.Publish(t.Context(), queue.Message{ID: fmt.Sprint("x", i), Subject: subject, Header: header, Data: []byte(`{`)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if dead, err := b.queue.Dead(t.Context(), webhook.StreamName, 0, 10); err != nil || len(dead) != 1 || dead[0].Code != "message_malformed" {
			t.Errorf("%+v, %v", dead, err)
		}
		if n := value(t, b, "sluice_webhook_malformed_total"); n != 1 {
			t.Errorf("%v events are counted that no delivery can be made of", n)
		}
		b.move("acme", "t")
		time.Sleep(time.Second)
		if b.one("e").Status != webhook.Delivered {
			t.Error("what follows is not delivered")
		}
	})
}

// The slowest endpoint delays nobody else, of its tenant or of another, and is
// itself called no more often at once than it may be.
func TestSlowEndpointsDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.cfg.Concurrency, b.cfg.PerTenant, b.cfg.PerEndpoint, b.cfg.Backlog = 8, 6, 3, 20
		var mu sync.Mutex
		running, most := 0, 0
		b.sender.answer = func(_ context.Context, m send.Message) webhook.Result {
			if m.URL != "https://slow.example/" {
				return webhook.Result{Status: 200}
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(20 * time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return webhook.Result{Class: webhook.Timeout}
		}
		b.endpoint("acme", "slow", "thing.*")
		b.endpoint("acme", "fast", "thing.*")
		b.endpoint("rival", "theirs", "thing.*")
		stop := b.start(1)
		began := time.Now()
		for n := range 100 {
			b.move("acme", thingID(fmt.Sprint("t", n)))
			b.move("rival", thingID(fmt.Sprint("t", n)))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		for _, other := range []string{"fast", "theirs"} {
			posts := b.sender.to(other)
			if len(posts) != 100 || posts[99].at.Sub(began) > 1500*time.Millisecond {
				t.Errorf("%s got %d events", other, len(posts))
			}
		}
		mu.Lock()
		if most != 3 {
			t.Errorf("%d at once", most)
		}
		mu.Unlock()
		if value(t, b, "sluice_webhook_deferred_total") == 0 {
			t.Error("the backlog has no limit")
		}
		b.sender.mu.Lock()
		b.sender.answer = nil
		b.sender.mu.Unlock()
		time.Sleep(2 * time.Hour)
		stop()
		for _, d := range b.deliveries("acme", "slow") {
			if d.Status != webhook.Delivered {
				t.Errorf("%s is %s, due %s", d.Subject, d.Status, d.Due)
			}
		}
	})
}
