package feed

import (
	"context"

	"sluice/internal/platform/fault"
)

// Finder is a source that can find an event by its id.
type Finder interface {
	// Find returns the cursor of the event with the id among those of the
	// filter's tenant; false if it is not there.
	Find(ctx context.Context, f Filter, id string) (Cursor, bool, error)
}

// find makes a cursor of a start that names an event, as webhooks do.
func (h *Hub) find(ctx context.Context, r *Request) error {
	if r.Start.Event == "" {
		return nil
	}
	finder, ok := h.source.(Finder)
	if !ok || r.Topic != nil {
		return invalid("this stream cannot begin behind an event's id: send a cursor")
	}
	select { // it reads the source several times
	case h.spills <- struct{}{}:
		defer func() { <-h.spills }()
	case <-ctx.Done():
		return fault.Of(ctx.Err())
	}
	at, found, err := finder.Find(ctx, Filter{Tenant: r.Filter.Tenant}, r.Start.Event)
	switch {
	case err != nil:
		return err
	case !found:
		return fault.New(fault.Gone, "the event %s is not kept any more, or never was: start at earliest, or behind a cursor", fault.Clip(r.Start.Event, 64)).WithCode("cursor_lost")
	}
	r.Start = Start{After: at}
	return nil
}
