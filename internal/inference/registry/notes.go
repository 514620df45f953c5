package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Bounds of notes and lineage.
const (
	MaxCard    = 64 << 10 // bytes
	MaxMetrics = 200
	MaxLabels  = 50
	MaxData    = 50 // sets of a lineage
	maxKey     = 100
	maxValue   = 500
	maxAuthor  = 255
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
	return badNotes(wrong)
}

// empty says whether nothing is known.
func (l *Lineage) empty() bool {
	return len(l.Data) == 0 && l.Code == "" && l.Parent == 0 && l.Author == ""
}

// checkLineage returns what is wrong with what a client says that a version was
// made from.
func checkLineage(l *Lineage) error {
	var wrong []fault.Detail
	check := func(pointer, value string, most int) {
		if !plain(value, most) {
			wrong = append(wrong, fault.Detail{Pointer: pointer, Code: "note_invalid", Message: fmt.Sprintf("a lineage has printable UTF-8 text, of at most %d bytes here", most)})
		}
	}
	if len(l.Data) > MaxData {
		return badNotes([]fault.Detail{{Pointer: "/lineage/data", Code: "note_invalid", Message: fmt.Sprintf("there are %d data sets, at most %d are kept", len(l.Data), MaxData)}})
	}
	for i, name := range l.Data {
		check("/lineage/data/"+strconv.Itoa(i), name, maxValue)
	}
	check("/lineage/code", l.Code, maxValue)
	check("/lineage/author", l.Author, maxAuthor)
	if l.Parent < 0 {
		wrong = append(wrong, fault.Detail{Pointer: "/lineage/parent", Code: "note_invalid", Message: "a parent is the number of a version, from 1"})
	}
	return badNotes(wrong)
}

func badNotes(wrong []fault.Detail) error {
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

// checkParent refuses a parent that the model never had: one that was deleted is one still.
func (s *Service) checkParent(ctx context.Context, model string, parent int64) error {
	if parent == 0 {
		return nil
	}
	l, err := Ledgers.Get(ctx, s.store.Read(repo.Scope{}), ledgerID(model))
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	for _, number := range l.Numbers {
		if number == parent {
			return nil
		}
	}
	taken, err := s.cfg.Taken(ctx, model)
	if err != nil || taken(parent) {
		return err
	}
	return badNotes([]fault.Detail{{Pointer: "/lineage/parent", Code: "note_invalid", Message: fmt.Sprintf("model %q has no version %d to be the parent", model, parent)}})
}
