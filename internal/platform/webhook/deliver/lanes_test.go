package deliver

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"sluice/internal/platform/webhook"
)

func fill(ls *lanes, tenant string, endpoint webhook.EndpointID, n int) {
	for i := range n {
		ls.offer(item{tenant, endpoint, webhook.DeliveryID(fmt.Sprintf("%s-%s-%d", tenant, endpoint, i))})
	}
}

// Tenants take turns however much each has waiting, and endpoints within them.
func TestTurns(t *testing.T) {
	ls := newLanes(limits{perTenant: 100, perEndpoint: 100, backlog: 1000})
	fill(ls, "big", "b1", 50)
	fill(ls, "big", "b2", 50)
	fill(ls, "small", "s1", 3)
	var got []string
	for range 8 {
		i, ok := ls.take()
		if !ok {
			t.Fatal("nothing")
		}
		got = append(got, string(i.id))
	}
	if want := "[big-b1-0 small-s1-0 big-b2-0 small-s1-1 big-b1-1 small-s1-2 big-b2-1 big-b1-2]"; fmt.Sprint(got) != want {
		t.Errorf("got %s", got)
	}
}

// An endpoint, or a tenant, that has all under way that it may is passed over.
func TestSlowOnesDelayThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(limits{perTenant: 3, perEndpoint: 2, backlog: 1000})
		fill(ls, "a", "slow", 50)
		fill(ls, "a", "other", 1)
		fill(ls, "b", "fast", 2)
		taken := map[webhook.EndpointID][]item{}
		for range 5 {
			i, ok := ls.take()
			if !ok {
				t.Fatal("nothing")
			}
			taken[i.endpoint] = append(taken[i.endpoint], i)
		}
		if len(taken["slow"]) != 2 || len(taken["other"]) != 1 || len(taken["fast"]) != 2 {
			t.Fatalf("%v", taken)
		}
		next := make(chan item)
		go func() {
			i, _ := ls.take()
			next <- i
		}()
		synctest.Wait()
		select {
		case i := <-next:
			t.Fatalf("%v is under way beyond the limit", i)
		default:
		}
		ls.done(taken["slow"][0])
		if i := <-next; i.endpoint != "slow" {
			t.Errorf("got %v", i)
		}
	})
}

func TestRoomAndRepetitions(t *testing.T) {
	ls := newLanes(limits{perTenant: 1, perEndpoint: 1, backlog: 2})
	i := item{"a", "e", "1"}
	for range 2 {
		if !ls.offer(i) || ls.backlogged() != 1 {
			t.Error("a repetition waits, too")
		}
	}
	taken, _ := ls.take()
	if !ls.offer(i) || ls.backlogged() != 0 {
		t.Error("what is under way waits again")
	}
	if !ls.offer(item{"a", "e", "2"}) || !ls.offer(item{"a", "e", "3"}) || ls.offer(item{"a", "e", "4"}) {
		t.Error("the backlog is not bounded")
	}
	ls.done(taken)
	if !ls.offer(item{"a", "f", "5"}) {
		t.Error("a full lane fills others")
	}
}

func TestClosedLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ls := newLanes(limits{1, 1, 1})
		defer ls.closeWith(ctx)()
		ended := make(chan bool)
		for range 3 {
			go func() { _, ok := ls.take(); ended <- ok }()
		}
		synctest.Wait()
		cancel()
		for range 3 {
			if <-ended {
				t.Error("something was taken")
			}
		}
	})
}

// However offers, turns and ends are mixed: limits hold, nothing is lost or under
// way twice, what is offered while it is under way is taken again, whoever waits and
// may gets a turn, and nothing is kept at the end.
func TestLanesLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limits{rapid.IntRange(1, 4).Draw(t, "per tenant"), rapid.IntRange(1, 3).Draw(t, "per endpoint"), 5}
		ls := newLanes(l)
		var running []item
		waiting, again := map[item]bool{}, map[item]bool{}
		count := func(f func(item) bool) (n int) {
			for _, i := range running {
				if f(i) {
					n++
				}
			}
			return n
		}
		free := func(i item) bool {
			return count(func(r item) bool { return r.tenant == i.tenant }) < l.perTenant &&
				count(func(r item) bool { return r.tenant == i.tenant && r.endpoint == i.endpoint }) < l.perEndpoint
		}
		step := func() {
			possible := false
			for i := range waiting {
				possible = possible || free(i)
			}
			if (len(ls.ready) > 0) != possible {
				t.Fatalf("%d tenants are ready, possible %t; waiting %v, running %v", len(ls.ready), possible, waiting, running)
			}
			if !possible {
				return
			}
			i, _ := ls.take()
			if !waiting[i] || !free(i) {
				t.Fatalf("took %v; waiting %v, running %v", i, waiting, running)
			}
			delete(waiting, i)
			running = append(running, i)
		}
		end := func(n int) {
			i := running[n]
			ls.done(i)
			if again[i] {
				delete(again, i)
				waiting[i] = true
			}
			running = append(running[:n], running[n+1:]...)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "action") {
			case 0:
				i := item{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"), rapid.SampledFrom([]webhook.EndpointID{"x", "y", "z"}).Draw(t, "endpoint"), rapid.SampledFrom([]webhook.DeliveryID{"1", "2", "3", "4", "5", "6", "7"}).Draw(t, "id")}
				underWay := count(func(r item) bool { return r == i }) > 0
				switch ok := ls.offer(i); {
				case ok && underWay:
					again[i] = true
				case ok:
					waiting[i] = true
				}
			case 1:
				step()
			default:
				if len(running) > 0 {
					end(rapid.IntRange(0, len(running)-1).Draw(t, "which"))
				}
			}
		}
		for len(running) > 0 || len(waiting) > 0 {
			if len(running) > 0 {
				end(0)
			}
			step()
		}
		if len(ls.tenants) > 0 || ls.waiting != 0 {
			t.Fatalf("%d tenants are kept", len(ls.tenants))
		}
	})
}
