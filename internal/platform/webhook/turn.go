package webhook

import (
	"context"
	"fmt"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// turn is where a delivery stands in the line of its endpoint and subject while it
// is on its way: its text sorts by the subject's sequence. It is empty for what
// stands in no line: what is final, was replayed, or happened to no aggregate.
var turn = spec.TextField("turn", func(d *Delivery) string {
	if d.Status.Final() || d.Base > 0 || d.Sequence == 0 {
		return ""
	}
	return d.line() + fmt.Sprintf("%019d", d.Sequence)
})

// line is what the turns of an endpoint's deliveries of one subject begin with.
func (d *Delivery) line() string {
	return string(d.Endpoint) + "/" + d.Kind + "/" + d.Subject + "/"
}

// Ahead returns the first delivery of the same subject to the same endpoint that is
// still on its way, if d waits for it. As events of a subject are matched in their
// order, no earlier one can be made later.
func Ahead(ctx context.Context, from repo.Reading, d *Delivery) (first Delivery, waits bool, err error) {
	own := turn.Of(d).Text
	if own == "" {
		return first, false, nil
	}
	p, err := Deliveries.Find(ctx, from, spec.Query[Delivery]{Where: spec.And(turn.Ge(d.line()), turn.Lt(own)), Order: turn.Asc(), Limit: 1})
	if len(p.Items) > 0 {
		return p.Items[0], true, err
	}
	return first, false, err
}

// Hold has a delivery that waits for another be looked after when that one should
// have been attempted. Its own turn may come before.
func (d *Delivery) Hold(first *Delivery, now time.Time) {
	due := first.Next.Add(notice)
	if due.Before(now.Add(notice)) {
		due = now.Add(notice)
	}
	if d.Status == Pending && d.Due.Before(due) {
		d.Due = due
	}
}

// Following returns the delivery whose turn it is once d is final; false for none.
func Following(ctx context.Context, from repo.Reading, d *Delivery) (next DeliveryID, ok bool, err error) {
	if d.Sequence == 0 {
		return "", false, nil
	}
	p, err := Deliveries.Find(ctx, from, spec.Query[Delivery]{Where: turn.StartsWith(d.line()), Order: turn.Asc(), Limit: 1})
	if len(p.Items) > 0 {
		return p.Items[0].ID, true, err
	}
	return "", false, err
}
