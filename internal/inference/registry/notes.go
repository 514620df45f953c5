package registry

import (
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"sluice/internal/platform/fault"
)

// Bounds of notes and lineage.
const (
	MaxCard    = 64 << 10 // bytes
	MaxMetrics = 200
	MaxLabels  = 50
	maxKey     = 100
	maxValue   = 500
)

// checkNotes returns what is wrong with what a client notes.
func checkNotes(n *Notes) error {
	var wrong []fault.Detail
	add := func(pointer, format string, args ...any) {
		wrong = append(wrong, fault.Detail{Pointer: pointer, Code: "note_invalid", Message: fmt.Sprintf(format, args...)})
	}
	if len(n.Card) > MaxCard || !utf8.ValidString(n.Card) {
		add("/card", "a card is UTF-8 text of at most %d bytes", MaxCard)
	}
	if len(n.Metrics) > MaxMetrics {
		add("/metrics", "there are %d metrics, at most %d are kept", len(n.Metrics), MaxMetrics)
	}
	for key, value := range n.Metrics {
		if !plain(key, maxKey) || key == "" || math.IsNaN(value) || math.IsInf(value, 0) {
			add("/metrics", "metric %.120q: a name has 1 to %d printable bytes, and its value is a finite number", key, maxKey)
		}
	}
	if len(n.Labels) > MaxLabels {
		add("/labels", "there are %d labels, at most %d are kept", len(n.Labels), MaxLabels)
	}
	for key, value := range n.Labels {
		if !plain(key, maxKey) || key == "" || !plain(value, maxValue) {
			add("/labels", "label %.120q: a key has 1 to %d printable bytes, a value at most %d", key, maxKey, maxValue)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "%d of the notes cannot be kept: %s", len(wrong), wrong[0].Message).WithCode("version_notes_invalid").WithDetails(wrong...)
}

func plain(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
