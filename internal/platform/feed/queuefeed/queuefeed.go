// Package queuefeed is a feed of the events that the relay publishes: a
// feed.Source over a stream of the queue.
//
// Known limits: the queue does not filter by type or label, so those who want
// few of a kind's events read them all, once per node; the events of one
// aggregate are told apart by the lane they share with others.
package queuefeed

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
)

// Config holds what a Source may be given; the zero value has defaults.
type Config struct {
	Stream string // default EVENTS
	// Labels are what filters may ask for besides kind, id and type, such as the
	// model of a prediction; nil for none.
	Labels func(*repo.Message) map[string]string
	Log    *slog.Logger // nil discards
}

// Source reads a stream of the queue.
type Source struct {
	reader queue.Reader
	epoch  func(context.Context) (string, error)
	cfg    Config
}

var _ feed.Source = (*Source)(nil)

// New returns a source. The epoch must be another one once the stream was lost
// and made again: feed.EpochOf the time when the stream was created.
func New(reader queue.Reader, epoch func(context.Context) (string, error), cfg Config) *Source {
	cfg.Stream = cmp.Or(cfg.Stream, "EVENTS")
	if cfg.Labels == nil {
		cfg.Labels = func(*repo.Message) map[string]string { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{reader: reader, epoch: epoch, cfg: cfg}
}

// State implements feed.Source.
func (s *Source) State(ctx context.Context) (feed.State, error) {
	epoch, err := s.epoch(ctx)
	if err != nil {
		return feed.State{}, err
	}
	b, err := s.reader.Bounds(ctx, s.cfg.Stream)
	return feed.State{Epoch: epoch, First: b.First, Last: b.Last}, err
}

// Read implements feed.Source. What cannot be decoded becomes a gap event.
func (s *Source) Read(ctx context.Context, r feed.Read) iter.Seq2[*feed.Event, error] {
	return func(yield func(*feed.Event, error) bool) {
		epoch, err := s.epoch(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		read := queue.Read{Stream: s.cfg.Stream, Filters: []string{subject(&r.Filter)}, From: r.From, Follow: r.Follow}
		for m, err := range s.reader.Read(ctx, read) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(s.event(ctx, epoch, &m), nil) {
				return
			}
		}
	}
}

// subject is the pattern of what the filter may take.
func subject(f *feed.Filter) string {
	if f.Subject != "" {
		return relay.Subject(&repo.Message{Stream: repo.StreamEvents, Key: repo.Key{Tenant: f.Tenant, Kind: f.Kind, ID: f.Subject}})
	}
	return repo.StreamEvents + "." + f.Tenant + "." + cmp.Or(f.Kind, "*") + ".*"
}

// Envelope is an event's data for clients: what happened, without who did it.
type Envelope struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Time     time.Time       `json:"time"`
	Kind     string          `json:"kind"`
	Subject  string          `json:"subject"`            // the id of what it happened to
	Sequence int64           `json:"sequence,omitempty"` // among the subject's events, from 1 without a gap
	Version  int             `json:"version"`            // of the form of data
	Data     json.RawMessage `json:"data,omitempty"`
}

// event translates a message.
func (s *Source) event(ctx context.Context, epoch string, q *queue.Message) *feed.Event {
	at := feed.Cursor{Epoch: epoch, Seq: q.Sequence}
	m, err := relay.Decode(q)
	var data []byte
	if err == nil {
		data, err = json.Marshal(Envelope{ID: m.ID, Type: m.Type, Time: m.Time.UTC(), Kind: m.Kind, Subject: m.Key.ID, Sequence: m.Sequence, Version: m.Version, Data: m.Data})
	}
	if err == nil && !named(m.Type) {
		err = fault.New(fault.Invalid, "the type %q of an event has other than printable characters", fault.Clip(m.Type, 64))
	}
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "a message in the stream of events is no event; consumers are told of a gap", "sequence", q.Sequence, "error", err)
		return feed.NewGap(feed.Cursor{Epoch: epoch, Seq: q.Sequence - 1}, at, feed.ReasonMalformed, q.Time)
	}
	return &feed.Event{
		Cursor: at, ID: m.ID, Type: m.Type, Time: m.Time, Tenant: m.Tenant, Kind: m.Kind, Subject: m.Key.ID,
		Key: m.Kind + "/" + m.Key.ID, Labels: s.cfg.Labels(&m), Data: data,
	}
}

// named reports whether a type can stand in a line of its own.
func named(t string) bool {
	for i := range len(t) {
		if t[i] <= ' ' || t[i] >= 0x7f {
			return false
		}
	}
	return t != ""
}
