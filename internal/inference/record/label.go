package record

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// Became returns Added, Replaced or Unchanged for a label that follows one of the same name,
// or none (nil). Numbers are the same however they are written.
func (l *Label) Became(before *Label) Labelled {
	switch {
	case before == nil:
		return Added
	case sameScore(l.Score, before.Score) && sameValue(l.Value, before.Value) && (l.Observed.IsZero() || l.Observed.UnixMilli() == before.Observed.UnixMilli()):
		return Unchanged
	}
	return Replaced
}

// Unfit says whether predictions of the experiment cannot have the label.
func (l *Label) Unfit(experiment string) bool { return l.Fits != nil && !l.Fits(experiment) }

// ObservedBy returns when the label was observed: now, where it does not say.
func (l *Label) ObservedBy(now time.Time) time.Time {
	if l.Observed.IsZero() {
		return now
	}
	return l.Observed
}

func sameScore(a, b *float64) bool { return a == b || a != nil && b != nil && *a == *b }

func sameValue(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := strconv.ParseFloat(string(a), 64)
	y, err2 := strconv.ParseFloat(string(b), 64)
	return err == nil && err2 == nil && x == y
}
