package feed

import (
	"context"

	"sluice/internal/platform/fault"
)

// Page is a part of a stream, for those who ask from time to time.
type Page struct {
	Events []*Event
	// Next is the position behind the page. It is always set, and to be sent as
	// the next start.
	Next Cursor
	More bool // whether there is more now
	// Gap says what is missing before the first event; nil if nothing is.
	Gap *Event
}

// The limits of pages.
const (
	MaxPage      = 500
	maxPageBytes = 4 << 20
	maxScan      = 20_000 // events looked at for one page
)

// List returns up to limit events (1 to MaxPage) behind the start. A page can
// have fewer than that, and even none, though there are more: few of what was
// looked at fit the filter. Errors are as of Subscribe.
func (h *Hub) List(ctx context.Context, r Request, limit int) (Page, error) {
	if err := r.Filter.Validate(); err != nil {
		return Page{}, err
	}
	if limit < 1 || limit > MaxPage {
		return Page{}, invalid("limit: %d is not within 1 and %d", limit, MaxPage)
	}
	if err := h.find(ctx, &r); err != nil {
		return Page{}, err
	}
	st, err := h.source.State(ctx)
	if err != nil {
		return Page{}, err
	}
	pos, lost := st.locate(r.Start)
	page := Page{Next: st.at(pos)}
	switch {
	case lost != "" && r.Strict:
		return page, fault.New(fault.Gone, "the stream cannot go on behind %s (%s): start at earliest", r.Start.After, lost).WithCode("cursor_lost")
	case lost != "":
		page.Gap = NewGap(r.Start.After, page.Next, lost, h.cfg.Now())
		h.metrics.gaps.WithLabelValues(lost).Inc()
	}
	if pos >= st.Last {
		return page, nil
	}
	select {
	case h.spills <- struct{}{}:
		defer func() { <-h.spills }()
	case <-ctx.Done():
		return page, fault.Of(ctx.Err())
	}
	return page, h.fill(ctx, &page, &r.Filter, limit, st.Last)
}

// fill reads events into the page, up to the last that was there when it began.
func (h *Hub) fill(ctx context.Context, page *Page, f *Filter, limit int, last uint64) error {
	scanned, size := 0, 0
	for e, err := range h.source.Read(ctx, Read{Filter: *f, From: page.Next.Seq + 1}) {
		if err != nil {
			return err
		}
		if e.Cursor.Seq > last {
			break
		}
		if len(page.Events) == limit || size > maxPageBytes || scanned == maxScan {
			page.More = true
			return nil
		}
		scanned++
		page.Next = e.Cursor
		if f.Match(e) {
			page.Events = append(page.Events, e)
			size += len(e.Data)
		}
	}
	page.Next.Seq = max(page.Next.Seq, last)
	return ctx.Err()
}
