package feedgrpc

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
)

// much is more than what waits in windows and in the transport.
const much = 32 // events of 16 KiB

func (b *bed) publishMuch() {
	b.Helper()
	for range much {
		b.sent++
		b.store("a", "job.moved", `{"n":`+strconv.Itoa(b.sent)+`,"x":"`+strings.Repeat("x", 16<<10)+`"}`)
	}
}

// A client that takes nothing is ended after the time of a write, while another
// on the same connection gets everything; then it has not lost anything.
func TestStalledConsumer(t *testing.T) {
	registry := prometheus.NewRegistry()
	b := open(t, setup{hub: feed.Config{Metrics: registry}, grpc: Config{WriteTimeout: 2 * time.Second}})
	stalled, other := b.subscribe(&feedpb.SubscribeRequest{}), b.subscribe(&feedpb.SubscribeRequest{})
	other.expect("open e1-0 spill")
	seen := 0
	for deadline := time.Now().Add(20 * time.Second); gauge(t, registry, "grpc") != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the stalled consumer is still there")
		}
		b.publishMuch()
		for range much {
			seen++
			if text := other.next(); !strings.HasPrefix(text, cursor(seen)+" job.moved") {
				t.Fatalf("the other one got %q as event %d", text, seen)
			}
		}
	}
	stalled.expect("open e1-0 spill")
	got := 0
	for {
		text := stalled.next()
		if text == "ResourceExhausted consumer_stalled" {
			break
		}
		if got++; !strings.HasPrefix(text, cursor(got)+" job.moved") {
			t.Fatalf("event %d is %q", got, text)
		}
	}
	if last := stalled.lastCursor(); last != cursor(got) {
		t.Errorf("the last cursor is %s after %d events", last, got)
	}
	again := b.subscribe(&feedpb.SubscribeRequest{After: stalled.lastCursor(), Strict: true})
	again.expect("open " + cursor(got) + " spill")
	for n := got + 1; n <= seen; n++ {
		if text := again.next(); !strings.HasPrefix(text, cursor(n)+" job.moved") {
			t.Fatalf("event %d is %q", n, text)
		}
	}
}

func cursor(seq int) string { return "e1-" + strconv.Itoa(seq) }

// What is behind its ring meets the policy that it chose.
func TestPoliciesOfASlowConsumer(t *testing.T) {
	for policy, want := range map[string]string{"drop_oldest": "gap", "disconnect": "ResourceExhausted slow_consumer", "spill": cursor(much) + " ", "conflate": cursor(much) + " "} {
		t.Run(policy, func(t *testing.T) {
			b := open(t, setup{hub: feed.Config{RingEvents: 4}})
			s := b.subscribe(&feedpb.SubscribeRequest{Slow: policy})
			witness := b.subscribe(&feedpb.SubscribeRequest{})
			s.expect("open e1-0 " + policy)
			witness.expect("open e1-0 spill")
			b.publishMuch()
			for range much { // by now the hub has read everything
				if text := witness.next(); !strings.HasPrefix(text, "e1-") {
					t.Fatal(text)
				}
			}
			events, text := 0, ""
			for !strings.HasPrefix(text, want) {
				if text = s.next(); strings.HasPrefix(text, "e1-") {
					events++
				} else if !strings.HasPrefix(text, want) {
					t.Fatalf("after %d events: %s", events, text)
				}
			}
			if all := events == much; all != (policy == "spill") {
				t.Errorf("%d of %d events", events, much)
			}
		})
	}
}
