package queue

import (
	"cmp"
	"slices"
	"time"

	"sluice/internal/platform/fault"
)

// Retention says when a stream lets go of a message.
type Retention uint8

const (
	// Limits keeps messages until a limit pushes them out: for feeds, and where
	// several consumers see every message.
	Limits Retention = iota
	// Work keeps messages until they are handled. One consumer takes each
	// message; filters of consumers must not overlap.
	Work
)

// Discard says what a full stream does.
type Discard uint8

const (
	// Refuse answers "queue_full" to publishers: nothing accepted is lost.
	Refuse Discard = iota
	// Oldest drops the oldest messages to make room.
	Oldest
)

// Stream configures one stream. Each stream has a second one beside it for its
// dead letters, with the same MaxBytes and without an age limit: a dead letter
// stays until it is replayed or discarded. If that one is full, messages that
// ought to go there stay where they are and are tried again.
type Stream struct {
	Name      string   // letters, digits, '-' and '_'
	Subjects  []string // patterns of what it stores; no other stream's may overlap
	Retention Retention
	Discard   Discard

	MaxBytes        int64         // default 1 GiB
	MaxMessages     int64         // default 10 million
	MaxMessageBytes int           // of the data; default 1 MiB less Overhead
	MaxAge          time.Duration // 0: no limit. On a Work stream it loses accepted work.
	Duplicates      time.Duration // the window in which an ID is recognised; default 2m
	Replicas        int           // copies in a cluster, 1 to 5; default the adapter's
}

// Normal returns the configuration with its defaults, or fault.Invalid.
func (s Stream) Normal() (Stream, error) {
	s.Subjects = slices.Clone(s.Subjects)
	s.MaxBytes = cmp.Or(s.MaxBytes, 1<<30)
	s.MaxMessages = cmp.Or(s.MaxMessages, 10_000_000)
	s.MaxMessageBytes = cmp.Or(s.MaxMessageBytes, 1<<20-Overhead)
	s.Duplicates = cmp.Or(s.Duplicates, 2*time.Minute)
	if s.MaxAge > 0 {
		s.Duplicates = min(s.Duplicates, s.MaxAge)
	}
	switch {
	case !Name(s.Name):
		return s, badConfig("stream: the name %q must have letters, digits, '-' and '_' only", s.Name)
	case len(s.Subjects) == 0 || !all(s.Subjects, Pattern):
		return s, badConfig("stream %s: subjects %q: at least one is needed, of tokens separated by dots", s.Name, s.Subjects)
	case s.MaxBytes < 0 || s.MaxMessages < 0 || s.MaxMessageBytes < 0 || s.MaxAge < 0 || s.Duplicates < 0:
		return s, badConfig("stream %s: limits must not be negative", s.Name)
	case s.Replicas < 0 || s.Replicas > 5:
		return s, badConfig("stream %s: %d replicas: 1 to 5 are possible", s.Name, s.Replicas)
	case s.Retention == Work && s.Discard == Oldest:
		return s, badConfig("stream %s: a work stream that drops its oldest messages would lose accepted work; use Discard: Refuse", s.Name)
	}
	return s, nil
}

func all(list []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !ok(s) })
}

func badConfig(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("queue_config_invalid")
}
