package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is appended, expires, is cut and resumed: a consumer that spills gets
// every event once and in order, or a gap that names exactly what it did not get.
func TestResumeLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMemory()
		m.honest = true
		h, err := NewHub(m, Config{
			Retry: time.Millisecond, RingEvents: rapid.IntRange(1, 6).Draw(rt, "ring"), ChunkEvents: rapid.IntRange(1, 5).Draw(rt, "chunk"),
			Lookback: rapid.IntRange(1, 6).Draw(rt, "lookback"),
		})
		if err != nil {
			rt.Fatal(err)
		}
		defer h.Close()
		c := &follower{t: rt, h: h}
		defer c.cut()
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"add", "add", "burst", "cut", "read", "read", "expire"}), 1, 40).Draw(rt, "steps")
		for _, step := range steps {
			switch step {
			case "add":
				m.add("a")
			case "burst":
				m.add(slices.Repeat([]string{"b"}, 10)...)
			case "expire":
				m.expire(int(m.last()+1-m.first) / 2)
			case "cut":
				c.cut()
			case "read":
				c.read(2 * time.Millisecond)
			}
		}
		for last := m.last(); c.at < last; {
			c.read(5 * time.Second)
		}
	})
}

// follower is a client that resumes.
type follower struct {
	t  *rapid.T
	h  *Hub
	s  *Subscription
	at uint64
}

func (c *follower) cut() {
	if c.s != nil {
		c.s.Close()
		c.s = nil
	}
}

func (c *follower) read(patience time.Duration) {
	if c.s == nil {
		var err error
		if c.s, err = c.h.Subscribe(context.Background(), Request{Filter: Filter{Tenant: "t"}, Start: after("e1", c.at)}); err != nil {
			c.t.Fatal(err)
		}
	}
	batch, err := c.s.Next(context.Background(), patience)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range batch {
		switch {
		case e.Type == TypeGap && e.Cursor.Seq < c.at:
			c.t.Fatalf("at %d a gap went back to %d", c.at, e.Cursor.Seq)
		case e.Type != TypeGap && e.Cursor.Seq != c.at+1:
			c.t.Fatalf("at %d came %d", c.at, e.Cursor.Seq)
		}
		c.at = e.Cursor.Seq
	}
}

// Each policy against the simplest model of itself, on a topic: a list.
func TestPolicyLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]Policy{Spill, Conflate, DropOldest, Disconnect}).Draw(rt, "policy")
		keep := rapid.IntRange(1, 5).Draw(rt, "keep")
		topic, err := NewTopic("x", TopicConfig{Tenant: "t", MaxEvents: keep})
		if err != nil {
			rt.Fatal(err)
		}
		h, err := NewHub(newMemory(), Config{})
		if err != nil {
			rt.Fatal(err)
		}
		defer h.Close()
		s, err := h.Subscribe(context.Background(), Request{Filter: Filter{Tenant: "t"}, Topic: topic, Policy: policy})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		var keys []string // of all that was appended, from sequence 1
		seen := 0
		for range rapid.IntRange(1, 30).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 8).Draw(rt, "appended") {
				key := rapid.SampledFrom([]string{"", "k", "l"}).Draw(rt, "key")
				keys = append(keys, key)
				if _, err := topic.Append(context.Background(), "e", key, []byte(`1`)); err != nil {
					rt.Fatal(err)
				}
			}
			want, slow := expected(policy, keys, seen, keep)
			for len(want) > 0 || slow {
				batch, err := s.Next(context.Background(), 0)
				if slow {
					if !errors.Is(err, ErrSlow) {
						rt.Fatalf("too slow, but %v", err)
					}
					return
				}
				got := words(batch)
				if err != nil || len(got) == 0 || len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
					rt.Fatalf("%s behind %d of %d: got %q %v, want %q", policy, seen, len(keys), got, err, want)
				}
				want = want[len(got):]
			}
			seen = len(keys)
			if batch, err := s.Next(context.Background(), 0); len(batch) > 0 || err != nil {
				rt.Fatalf("more than there is: %q %v", words(batch), err)
			}
		}
	})
}

// expected is what a consumer that has seen some must get next.
func expected(policy Policy, keys []string, seen, keep int) (want []string, slow bool) {
	floor := len(keys) - keep
	if seen < floor {
		if policy == Disconnect && seen >= 0 {
			return nil, true
		}
		want = append(want, fmt.Sprintf("gap x-%d..x-%d slow_consumer", seen, floor))
		seen = floor
	}
	for i := seen; i < len(keys); i++ {
		if policy == Conflate && keys[i] != "" && slices.Contains(keys[i+1:], keys[i]) {
			continue
		}
		want = append(want, fmt.Sprintf("%d e", i+1))
	}
	return want, false
}

// Never is more outstanding than was granted, and what was granted comes.
func TestCreditLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMemory()
		h, err := NewHub(m, Config{RingEvents: 4, ChunkEvents: 4})
		if err != nil {
			rt.Fatal(err)
		}
		defer h.Close()
		s, err := h.Subscribe(context.Background(), Request{Filter: Filter{Tenant: "t"}, Credits: true})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		var messages, bytes int64
		weighed := false
		at := uint64(0)
		for range rapid.IntRange(1, 30).Draw(rt, "rounds") {
			if rapid.Bool().Draw(rt, "grant") {
				n, b := rapid.Int64Range(0, 5).Draw(rt, "messages"), rapid.Int64Range(0, 40).Draw(rt, "bytes")
				s.Grant(n, b)
				messages, bytes, weighed = messages+n, bytes+b, weighed || b > 0
			}
			for range rapid.IntRange(0, 6).Draw(rt, "added") {
				m.add("a")
			}
			for {
				batch, err := s.Next(context.Background(), 2*time.Millisecond)
				if err != nil {
					rt.Fatal(err)
				}
				for _, e := range batch {
					if messages, bytes = messages-1, bytes-int64(len(e.Data)); messages < 0 || weighed && bytes < 0 {
						rt.Fatalf("%d messages and %d bytes of credit are left", messages, bytes)
					}
					if at++; e.Cursor.Seq != at {
						rt.Fatalf("got %d at %d", e.Cursor.Seq, at)
					}
				}
				if !weighed {
					bytes = 0
				}
				if len(batch) == 0 {
					break
				}
			}
		}
		s.Grant(1000, 1<<20)
		for at < m.last() {
			batch, err := s.Next(context.Background(), 5*time.Second)
			if err != nil || len(batch) == 0 {
				rt.Fatalf("at %d of %d with credit: %v", at, m.last(), err)
			}
			at += uint64(len(batch))
		}
	})
}
