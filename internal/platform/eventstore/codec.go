package eventstore

import (
	"encoding/json"
	"strconv"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Codec knows the events of one kind of aggregates: how to read each, and how
// to bring older versions of their payloads to the newest. Fill it before use;
// then it is safe for concurrent use.
type Codec struct {
	events map[string]form
}

// form is what the codec knows of one type of events.
type form struct {
	version int
	decode  func(json.RawMessage) (aggregate.Event, error)
	upcasts map[int]Upcast // from a version to the next
}

// Upcast turns the payload of one version into that of the next.
type Upcast func(data json.RawMessage) (json.RawMessage, error)

// NewCodec returns a codec that knows no events.
func NewCodec() *Codec { return &Codec{events: map[string]form{}} }

// Register makes the codec know events of type E, which are read as JSON.
// upcasts lead from version 1 on, one for each version, to E's. It panics on a
// second registration, and on upcasts that do not reach E's version: defects.
func Register[E aggregate.Event](c *Codec, upcasts ...Upcast) {
	var e E
	name, version := e.EventType(), aggregate.VersionOf(e)
	if _, known := c.events[name]; known {
		panic("eventstore: the event " + name + " is registered twice")
	}
	if len(upcasts) != version-1 {
		panic("eventstore: the event " + name + " has version " + strconv.Itoa(version) + " and needs as many upcasts less one")
	}
	f := form{version: version, upcasts: map[int]Upcast{}, decode: func(data json.RawMessage) (aggregate.Event, error) {
		var e E
		err := json.Unmarshal(data, &e)
		return e, err
	}}
	for i, u := range upcasts {
		f.upcasts[i+1] = u
	}
	c.events[name] = f
}

// Decode reads the event that a message holds. An event that is not known, or
// newer than this program, is an error: a state without it would be wrong.
func (c *Codec) Decode(m *repo.Message) (aggregate.Event, error) {
	f, ok := c.events[m.Type]
	if !ok || m.Version > f.version {
		return nil, fault.New(fault.Internal, "the event %s of version %d is not known to this program: a newer one wrote it", m.Type, m.Version).WithCode("event_unknown")
	}
	data := m.Data
	for v := max(m.Version, 1); v < f.version; v++ {
		var err error
		if data, err = f.upcasts[v](data); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the event %s of version %d cannot be brought to version %d", m.ID, v, v+1).WithCode("event_malformed")
		}
	}
	e, err := f.decode(data)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the event %s cannot be decoded", m.ID).WithCode("event_malformed")
	}
	return e, nil
}
