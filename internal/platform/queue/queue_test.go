package queue

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// Waves sends every message once and keeps the order of each subject, whatever
// fails, and nothing follows a failure of its subject.
func TestWavesKeepTheOrderOfSubjects(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 30).Draw(rt, "messages")
		messages := make([]Message, n)
		fails := map[int]bool{}
		for i := range messages {
			messages[i] = Message{ID: fmt.Sprint(i), Subject: rapid.SampledFrom([]string{"a", "b", "c.d"}).Draw(rt, "subject")}
			fails[i] = rapid.IntRange(0, 5).Draw(rt, "fails") == 0
		}
		var sent []int
		err := Waves(messages, func(wave []int) []error {
			subjects := map[string]bool{}
			errs := make([]error, len(wave))
			for j, i := range wave {
				if subjects[messages[i].Subject] {
					rt.Errorf("two messages of %s at once", messages[i].Subject)
				}
				subjects[messages[i].Subject] = true
				sent = append(sent, i)
				if fails[i] {
					errs[j] = fault.New(fault.Unavailable, "no")
				}
			}
			return errs
		})
		broken, failed := map[string]bool{}, false
		for i, m := range messages {
			switch e := Outcome(err, i); {
			case broken[m.Subject]:
				if slices.Contains(sent, i) || fault.CodeOf(e) != "queue_not_sent" {
					rt.Errorf("message %d follows a failure: sent %v, %v", i, sent, e)
				}
			case fails[i]:
				broken[m.Subject], failed = true, true
				if fault.CodeOf(e) != "unavailable" {
					rt.Errorf("message %d failed with %v", i, e)
				}
			case e != nil || !slices.Contains(sent, i):
				rt.Errorf("message %d: %v, sent %v", i, e, sent)
			}
		}
		if failed != (err != nil) {
			rt.Errorf("the batch returned %v", err)
		}
		for i := range messages {
			for j := range i {
				a, b := slices.Index(sent, j), slices.Index(sent, i)
				if messages[i].Subject == messages[j].Subject && a >= 0 && b >= 0 && a > b {
					rt.Errorf("%d was sent after %d", j, i)
				}
			}
		}
	})
}

// Matches agrees with the pattern written as a regular expression.
func TestMatches(t *testing.T) {
	tokens := rapid.SampledFrom([]string{"a", "b", "ab"})
	rapid.Check(t, func(rt *rapid.T) {
		subject := strings.Join(rapid.SliceOfN(tokens, 1, 4).Draw(rt, "subject"), ".")
		list := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "*"}), 1, 4).Draw(rt, "pattern")
		if rapid.Bool().Draw(rt, "rest") {
			list = append(list, ">")
		}
		pattern := strings.Join(list, ".")
		if !Pattern(pattern) || !Subject(subject) {
			rt.Fatalf("%q or %q is not accepted", pattern, subject)
		}
		expr := strings.NewReplacer(".", `\.`, "*", `[^.]+`, ">", `.+`).Replace(pattern)
		if want := regexp.MustCompile("^" + expr + "$").MatchString(subject); Matches(pattern, subject) != want {
			rt.Errorf("%q matches %q: want %t", pattern, subject, want)
		}
	})
}

func TestSubjectsAndPatterns(t *testing.T) {
	for s, want := range map[string][2]bool{
		"a": {true, true}, "a.b-c.D_9": {true, true}, "*": {false, true}, "a.>": {false, true}, ">": {false, true},
		"": {}, ".": {}, "a.": {}, ".a": {}, "a..b": {}, "a b": {}, ">.a": {}, "a*": {}, "ü": {}, "a\n": {},
		strings.Repeat("a", 129): {}, strings.Repeat("a.", 100) + "b": {},
	} {
		if got := [2]bool{Subject(s), Pattern(s)}; got != want {
			t.Errorf("%q: subject and pattern %v, want %v", s, got, want)
		}
	}
}

// What Validate accepts cannot break a server's protocol.
func FuzzValidate(f *testing.F) {
	f.Add("id", "a.b", "key", "value")
	f.Add("id\r\n", "a b", "Nats-Msg-Id", "x\r\ny: z")
	f.Fuzz(func(t *testing.T, id, subject, key, value string) {
		m := Message{ID: id, Subject: subject, Header: Header{key: value}}
		if m.Validate() != nil {
			return
		}
		if strings.ContainsAny(id+subject+key, " \t\r\n*>") || strings.ContainsAny(value, "\r\n\x00") || reserved(key) {
			t.Errorf("accepted %q %q %q %q", id, subject, key, value)
		}
		if id == "" || strings.Contains(id, ".") || len(id) > MaxID || len(subject) > MaxSubject || len(key)+len(value) > MaxHeader {
			t.Errorf("accepted sizes of %q %q", id, subject)
		}
	})
}

func TestBackoffDoublesUpToItsMax(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute}
	for attempt, want := range map[int]int{-1: 1, 0: 1, 1: 1, 2: 2, 3: 4, 6: 32, 7: 60, 8: 60, 64: 60, 1 << 40: 60} {
		if got := b.After(attempt); got.Seconds() != float64(want) {
			t.Errorf("after attempt %d: %s, want %ds", attempt, got, want)
		}
	}
	if d := (Backoff{Min: 1 << 61, Max: 1 << 62}).After(20); d != 1<<62 {
		t.Errorf("an overflow gives %s", d)
	}
}

func TestBoundsCheck(t *testing.T) {
	b := Bounds{First: 7, Last: 10}
	for from, ok := range map[uint64]bool{0: true, 1: false, 6: false, 7: true, 11: true, 12: false} {
		err := b.Check("S", from)
		if (err == nil) != ok {
			t.Errorf("from %d: %v", from, err)
		}
		if err != nil && (fault.CodeOf(err) != "sequence_gap" || !fault.Is(err, fault.Conflict)) {
			t.Errorf("from %d: %v is classified as %s", from, err, fault.CodeOf(err))
		}
	}
	if err := (Bounds{First: 1}).Check("S", 1); err != nil {
		t.Errorf("an empty stream: %v", err)
	}
}

func TestOutcomeOfOtherErrors(t *testing.T) {
	cause := errors.New("x")
	if Outcome(nil, 3) != nil || !errors.Is(Outcome(cause, 3), cause) {
		t.Error("an error that is none of a batch is not every message's")
	}
	e := &PublishError{Errs: []error{nil, fault.New(fault.TooLarge, "big"), nil}}
	if fault.CodeOf(e) != "too_large" || Outcome(fmt.Errorf("wrapped: %w", e), 0) != nil || !strings.HasPrefix(e.Error(), "1 of 3") {
		t.Errorf("%v", e)
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	m, err := NewMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	m.Published(2, nil, 0.001)
	m.Published(2, &PublishError{Errs: []error{nil, fault.New(fault.Unavailable, "full").WithCode("queue_full")}}, 0.1)
	c := m.Consumer("c")
	c.Begin(1)
	c.Begin(2)
	c.End(Acked)
	want := `
# HELP sluice_queue_in_flight Deliveries being handled.
# TYPE sluice_queue_in_flight gauge
sluice_queue_in_flight{consumer="c"} 1
# HELP sluice_queue_published_total Messages that were published, by outcome: stored, or the code of the error.
# TYPE sluice_queue_published_total counter
sluice_queue_published_total{outcome="queue_full"} 1
sluice_queue_published_total{outcome="stored"} 3
# HELP sluice_queue_redelivered_total Deliveries that were not the message's first.
# TYPE sluice_queue_redelivered_total counter
sluice_queue_redelivered_total{consumer="c"} 1
# HELP sluice_queue_settled_total Deliveries by what became of them: acked, retried, dead, interrupted, lost.
# TYPE sluice_queue_settled_total counter
sluice_queue_settled_total{consumer="c",outcome="acked"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "sluice_queue_in_flight", "sluice_queue_published_total", "sluice_queue_redelivered_total", "sluice_queue_settled_total"); err != nil {
		t.Error(err)
	}
	if _, err := NewMetrics(r); err == nil {
		t.Error("registered twice without an error")
	}
}
