package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sluice/internal/platform/repo"
)

// eventsAreWhole: the stream has each event of each subject once, in order and
// without a gap, and those of a prediction lead from its acceptance to its end.
func (c *checker) eventsAreWhole() {
	seen := map[string]bool{}
	for _, m := range c.events {
		if seen[m.ID] {
			c.wrong("twice: the event %s of %s %s is in the stream twice", m.ID, m.Kind, m.Key.ID)
		}
		seen[m.ID] = true
	}
	for key, events := range c.eventsOf {
		for i, m := range events {
			if m.Sequence != int64(i)+1 {
				c.wrong("disorder: the event %d of %s %s is in place %d of the stream", m.Sequence, key.Kind, key.ID, i+1)
				break
			}
		}
		if _, ok := c.predictions[key]; !ok && key.Kind == "predictions" {
			c.wrong("half: there are events of %s, and no record", key.ID)
		}
	}
	for key, p := range c.predictions {
		events := c.eventsOf[key]
		if int64(len(events)) != p.sequence {
			c.wrong("half: %s has recorded %d events, the stream has %d", key.ID, p.sequence, len(events))
		}
		if problem := path(events, p.Status); problem != "" {
			c.wrong("%s of %s: %s", problem, key.ID, steps(events))
		}
	}
}

// next are the statuses that a prediction may have after each.
var next = map[string][]string{
	"":           {"queued"},
	"queued":     {"running", "cancelled", "expired", "failed"},
	"running":    {"running", "queued", "cancelling", "succeeded", "failed", "cancelled", "expired"},
	"cancelling": {"cancelled"},
}

// path says what is wrong with the way of a prediction to its status; empty for
// nothing.
func path(events []repo.Message, status string) string {
	at, attempt := "", 0
	for _, m := range events {
		_, to, _ := strings.Cut(m.Type, ".")
		if slices.Contains(final, at) {
			return "two ends: something came after the end"
		}
		if !slices.Contains(next[at], to) {
			return fmt.Sprintf("disorder: %q came after %q", to, at)
		}
		if at = to; to != "running" {
			continue
		}
		var data struct{ Attempt int }
		if err := json.Unmarshal(m.Data, &data); err != nil || data.Attempt != attempt+1 {
			return fmt.Sprintf("not counted: the attempt %d came after the attempt %d", data.Attempt, attempt)
		}
		attempt++
	}
	if at != status {
		return fmt.Sprintf("half: its events end with %q, the record with %q; the events", at, status)
	}
	return ""
}

func steps(events []repo.Message) string {
	text := make([]string, len(events))
	for i, m := range events {
		text[i] = fmt.Sprintf("%d %s", m.Sequence, m.Type)
	}
	return strings.Join(text, ", ")
}
