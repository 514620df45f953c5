// Package feedtest is the contract of feed.Source as a test suite: what a hub
// makes of any source, seen by consumers that come, go and come back.
package feedtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/feed"
)

// Occurrence is an event to be published.
type Occurrence struct{ Tenant, Kind, Subject, Type string }

// Keep is how many events a source under test keeps before it drops the oldest.
const Keep = 300

// Env is a source under test.
type Env struct {
	Source feed.Source
	// Publish stores an event behind the others.
	Publish func(t testing.TB, o Occurrence)
	// Remake empties the source and begins a new epoch; nil if it cannot.
	Remake func(t testing.TB)
}

// Run runs the contract. open returns an empty source for one test.
func Run(t *testing.T, open func(t testing.TB) Env) {
	for name, test := range map[string]func(*fixture){
		"EveryEventToEveryConsumer": everyEvent,
		"ResumeAtEveryPoint":        resumeEverywhere,
		"Filters":                   filters,
		"GapAfterRetention":         retention,
		"Lists":                     lists,
		"NewEpoch":                  newEpoch,
	} {
		t.Run(name, func(t *testing.T) { test(newFixture(t, open(t))) })
	}
}

type fixture struct {
	*testing.T
	env Env
	hub *feed.Hub
}

func newFixture(t *testing.T, env Env) *fixture {
	h, err := feed.NewHub(env.Source, feed.Config{RingEvents: 16, ChunkEvents: 7, Check: 200 * time.Millisecond, Retry: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &fixture{T: t, env: env, hub: h}
}

// publish stores n events of tenant a and as many of another between them.
func (f *fixture) publish(from, n int) {
	for i := from; i < from+n; i++ {
		f.env.Publish(f, Occurrence{"a", "job", "job_1", fmt.Sprintf("e%d", i)})
		f.env.Publish(f, Occurrence{"b", "job", "job_1", fmt.Sprintf("other%d", i)})
	}
}

func (f *fixture) subscribe(r feed.Request) *feed.Subscription {
	f.Helper()
	if r.Filter.Tenant == "" {
		r.Filter.Tenant = "a"
	}
	s, err := f.hub.Subscribe(f.Context(), r)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	return s
}

// next returns n events or ends the test.
func next(t testing.TB, s *feed.Subscription, n int) []*feed.Event {
	t.Helper()
	var all []*feed.Event
	for len(all) < n {
		batch, err := s.Next(t.Context(), 20*time.Second)
		if err != nil || len(batch) == 0 {
			t.Errorf("after %d of %d events: %v", len(all), n, err)
			break
		}
		all = append(all, batch...)
	}
	return all
}

// inOrder checks that the events are e<from>, e<from+1> and so on.
func inOrder(t testing.TB, events []*feed.Event, from int) {
	t.Helper()
	for i, e := range events {
		if want := fmt.Sprintf("e%d", from+i); e.Type != want || e.Tenant != "a" || !json.Valid(e.Data) {
			t.Errorf("event %d is %s of %s at %s, want %s", i, e.Type, e.Tenant, e.Cursor, want)
			return
		}
	}
}

func everyEvent(f *fixture) {
	f.publish(0, 20)
	var consumers sync.WaitGroup
	for range 20 {
		s := f.subscribe(feed.Request{Start: feed.Start{Oldest: true}})
		consumers.Go(func() { inOrder(f, next(f, s, 60), 0) })
	}
	f.publish(20, 40)
	consumers.Wait()
}

func resumeEverywhere(f *fixture) {
	const n = 40
	f.publish(0, n)
	all := next(f, f.subscribe(feed.Request{Start: feed.Start{Oldest: true}}), n)
	if f.Failed() {
		return
	}
	for i := range n - 1 {
		s := f.subscribe(feed.Request{Start: feed.Start{After: all[i].Cursor}, Strict: true})
		if s.From() != all[i].Cursor {
			f.Errorf("replays from %s, want %s", s.From(), all[i].Cursor)
		}
		inOrder(f, next(f, s, n-1-i), i+1)
		s.Close()
	}
	s := f.subscribe(feed.Request{Start: feed.Start{After: all[n-1].Cursor}, Strict: true})
	f.publish(n, 1)
	inOrder(f, next(f, s, 1), n)
}

func filters(f *fixture) {
	one := f.subscribe(feed.Request{Filter: feed.Filter{Kind: "job", Subject: "job_7"}})
	kind := f.subscribe(feed.Request{Filter: feed.Filter{Kind: "model"}})
	types := f.subscribe(feed.Request{Filter: feed.Filter{Types: []string{"e9", "made"}}})
	for i := range 20 {
		f.env.Publish(f, Occurrence{"a", "job", fmt.Sprintf("job_%d", i), fmt.Sprintf("e%d", i)})
	}
	f.env.Publish(f, Occurrence{"b", "model", "mdl_1", "made"})
	f.env.Publish(f, Occurrence{"a", "model", "mdl_2", "made"})
	got := append(append(next(f, one, 1), next(f, kind, 1)...), next(f, types, 2)...)
	want := []string{"job_7 e7", "mdl_2 made", "job_9 e9", "mdl_2 made"}
	for i, e := range got {
		if s := e.Subject + " " + e.Type; s != want[i] {
			f.Errorf("event %d is %s, want %s", i, s, want[i])
		}
	}
	again := f.subscribe(feed.Request{Filter: feed.Filter{Kind: "job", Subject: "job_3"}, Start: feed.Start{Oldest: true}})
	if got := next(f, again, 1); len(got) > 0 && got[0].Type != "e3" {
		f.Errorf("from the oldest on: %s", got[0].Type)
	}
}

func retention(f *fixture) {
	f.publish(0, 10)
	ahead := f.subscribe(feed.Request{Start: feed.Start{Oldest: true}})
	first := next(f, ahead, 10)
	f.publish(10, Keep/2+40)
	// Once the hub has come to the end, what it buffers no longer hides the loss.
	for at, last := "", fmt.Sprintf("e%d", 10+Keep/2+40-1); at != last; {
		got := next(f, ahead, 1)
		if len(got) == 0 {
			f.FailNow()
		}
		at = got[len(got)-1].Type
	}
	after := feed.Start{After: first[9].Cursor}
	s := f.subscribe(feed.Request{Start: after})
	got := next(f, s, 1+Keep/2)
	if len(got) == 0 || got[0].Type != feed.TypeGap {
		f.Fatalf("no gap before %v", got)
	}
	inOrder(f, got[1:], 10+40)
	if _, err := f.hub.Subscribe(f.Context(), feed.Request{Filter: feed.Filter{Tenant: "a"}, Start: after, Strict: true}); err == nil {
		f.Error("a strict consumer was not refused")
	}
}

func lists(f *fixture) {
	f.publish(0, 25)
	r := feed.Request{Filter: feed.Filter{Tenant: "a"}, Start: feed.Start{Oldest: true}}
	seen := 0
	for more := true; more; {
		p, err := f.hub.List(f.Context(), r, 10)
		if err != nil || p.Gap != nil {
			f.Fatalf("%v, gap %v", err, p.Gap)
		}
		inOrder(f, p.Events, seen)
		seen += len(p.Events)
		r.Start, more = feed.Start{After: p.Next}, p.More
	}
	if seen != 25 {
		f.Errorf("%d events in all pages", seen)
	}
	f.publish(25, 1)
	p, err := f.hub.List(f.Context(), r, 10)
	if err != nil || len(p.Events) != 1 {
		f.Errorf("behind the last page: %d events, %v", len(p.Events), err)
	}
	inOrder(f, p.Events, 25)
}

func newEpoch(f *fixture) {
	if f.env.Remake == nil {
		return
	}
	f.publish(0, 5)
	s := f.subscribe(feed.Request{Start: feed.Start{Oldest: true}})
	old := next(f, s, 5)
	f.env.Remake(f)
	f.publish(0, 8)
	for _, s := range []*feed.Subscription{s, f.subscribe(feed.Request{Start: feed.Start{After: old[2].Cursor}})} {
		got := next(f, s, 9)
		if len(got) == 0 || got[0].Type != feed.TypeGap {
			f.Errorf("no gap at the new epoch")
			continue
		}
		inOrder(f, got[1:], 0)
	}
}
