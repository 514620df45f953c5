// Package feed is what happens, as streams that can be resumed: each event has
// a cursor, and whoever names the cursor of the last event it saw goes on right
// behind it, over any transport and through restarts.
//
// A Hub shares one reader of a source among all its consumers of one tenant and
// kind. The latest events are in a bounded ring, encoded once; a consumer has a
// position and nothing else. One that is behind the ring reads what it missed
// from the source (it spills), until it has caught up, or meets another policy
// that it chose. A Topic is a ring that a program appends to, such as the
// outputs of one running prediction.
//
// What a consumer does not get is told it: by a gap event, by an error, or by
// the policy it asked for. Nothing here knows a transport: package feedhttp
// serves Subscriptions as server-sent events and WebSockets, package feedgrpc as
// gRPC streams, and package queuefeed reads the queue.
//
// Known limits: the order is that of the source, which holds for each aggregate
// and not among them. A source that lost its latest events in a power cut and
// was filled again from the outbox is noticed only while it is shorter than
// before, or if its epoch changes. A cursor older than all that the source keeps
// is a gap, even if no event of the filter was among what is gone.
package feed

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// Event is something that happened. It is shared by all consumers: nobody
// changes it once it was handed over.
type Event struct {
	Cursor  Cursor
	ID      string // evt_…, as webhooks have it; empty for events of a topic
	Type    string // "prediction.succeeded", or one of the types below
	Time    time.Time
	Tenant  string
	Kind    string            // of the aggregate
	Subject string            // the aggregate's id
	Key     string            // events of one key replace each other where a consumer conflates; empty for none
	Labels  map[string]string // what filters may ask for besides
	Data    json.RawMessage   // what the client gets: one line of JSON

	sse, frame wire
}

// wire is an encoding, made once.
type wire struct {
	once sync.Once
	b    []byte
}

// Types of events that are about the stream itself.
const (
	TypeGap   = "gap"   // events are missing: Data has from, to and reason
	TypeError = "error" // the stream ends and why
	TypeEnd   = "end"   // nothing will follow, ever
)

// cost is what an event counts in buffers: its data, and that in two encodings.
func (e *Event) cost() int { return 3*len(e.Data) + 512 }

// Filter says which events a consumer gets. The tenant comes from the
// credential; all else narrows.
type Filter struct {
	Tenant  string
	Kind    string            // empty for all
	Subject string            // an aggregate's id; needs Kind
	Types   []string          // none for all
	Labels  map[string]string // each must be the event's
	// End are types after which nothing follows for this filter: an end event comes
	// behind them. A hub knows them where a subject is named.
	End []string
}

// The limits of a filter.
const (
	maxTypes = 32
	maxName  = 128
)

// Validate returns fault.Invalid with what to change.
func (f *Filter) Validate() error {
	long := func(s string) bool { return s == "" || len(s) > maxName }
	switch {
	case f.Tenant == "":
		return fault.New(fault.Internal, "a feed was opened without a tenant").WithCode("feed_without_tenant")
	case len(f.Types) > maxTypes || slices.ContainsFunc(f.Types, long):
		return invalid("types: at most %d types of 1 to %d bytes can be chosen; leave it out for all", maxTypes, maxName)
	case len(f.Kind) > maxName || len(f.Subject) > 2*maxName:
		return invalid("kind and id: at most %d and %d bytes are possible", maxName, 2*maxName)
	case f.Subject != "" && f.Kind == "":
		return invalid("an id needs the kind of what it names")
	case !plain(f.Kind):
		return invalid("kind %q is no kind: use letters, digits and _, such as predictions", fault.Clip(f.Kind, 64))
	case len(f.Labels) > maxTypes:
		return invalid("at most %d labels can be asked for", maxTypes)
	}
	for name, value := range f.Labels {
		if long(name) || len(value) > 2*maxName {
			return invalid("labels: names of 1 to %d bytes and values of at most %d are possible", maxName, 2*maxName)
		}
	}
	return nil
}

// plain reports whether a name can be a part of a subject, and of nothing else.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// Match reports whether the filter takes the event. Gaps and ends concern everybody.
func (f *Filter) Match(e *Event) bool {
	if e.Type == TypeGap || e.Type == TypeEnd {
		return true
	}
	if f.Tenant != e.Tenant || f.Kind != "" && f.Kind != e.Kind || f.Subject != "" && f.Subject != e.Subject {
		return false
	}
	for k, v := range f.Labels {
		if e.Labels[k] != v {
			return false
		}
	}
	return len(f.Types) == 0 || slices.Contains(f.Types, e.Type)
}

func (f *Filter) ends(e *Event) bool { return slices.Contains(f.End, e.Type) }

// Source is where events are kept.
type Source interface {
	// State says what is there. Errors are of a kind that can be retried.
	State(ctx context.Context) (State, error)
	// Read yields the events from the sequence on that match the filter, in
	// order; it may yield others besides. It ends with one error, or without one
	// if ctx ended or a read that does not follow has caught up. Where the events
	// to go on with are not there it ends with an error, and State tells why.
	Read(ctx context.Context, r Read) iter.Seq2[*Event, error]
}

// Read says what to read from a source.
type Read struct {
	Filter Filter
	From   uint64 // sequence; within State.First and State.Last+1
	Follow bool   // wait for new events instead of ending at the newest
}

// State is what a source holds: its incarnation, and the sequences of its oldest
// and newest event of any kind. First is Last+1 if there is none.
type State struct {
	Epoch       string
	First, Last uint64
}

func (s State) at(seq uint64) Cursor { return Cursor{Epoch: s.Epoch, Seq: seq} }

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("feed_request_invalid")
}
