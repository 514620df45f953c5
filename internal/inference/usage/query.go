package usage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Read is the permission to see what one's tenant uses.
const Read access.Permission = "usage:read"

// Report asks for what was used from one hour up to another.
type Report struct {
	cqrs.Returns[[]Group]
	From, To time.Time // whole hours
	By       By
}

// By says what a report tells apart.
type By struct {
	Hour, Day, Model, Version, Mode bool
}

// Group is one sum of a report. Fields that the report does not tell apart are zero.
type Group struct {
	Start time.Time // of the hour or day, UTC
	Entry
}

// QueryName implements cqrs.Query.
func (Report) QueryName() string { return "usage.report" }

// Validate implements cqrs.Validated.
func (r Report) Validate() error {
	switch {
	case !r.From.Before(r.To), r.To.Sub(r.From) > Keep:
		return fault.New(fault.Invalid, "from has to be before to, by at most %d days", Keep/(24*time.Hour)).WithCode("usage_range_invalid")
	case !r.From.Truncate(time.Hour).Equal(r.From) || !r.To.Truncate(time.Hour).Equal(r.To):
		return fault.New(fault.Invalid, "usage is counted by hours: from and to have to be the beginning of one").WithCode("usage_range_invalid")
	}
	return nil
}

// The most totals that a report may sum up, and the most groups that it may have.
const (
	maxTotals = 200_000
	maxGroups = 10_000
)

// Register adds the query to the bus.
func Register(b *cqrs.Bus) {
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q Report) ([]Group, error) {
		return report(ctx, from, q, maxTotals, maxGroups)
	})
}

func report(ctx context.Context, from repo.Reading, q Report, maxTotals, maxGroups int) ([]Group, error) {
	groups, read := map[slot]*Group{}, 0
	within := spec.And(hour.Ge(q.From), hour.Lt(q.To))
	for t, err := range Totals.All(ctx, from, spec.Query[Total]{Where: within, Order: hour.Asc()}) {
		if err != nil {
			return nil, err
		}
		key := q.By.of(&t)
		g := groups[key.slot()]
		if g == nil {
			g = &key
			groups[key.slot()] = g
		}
		g.Add(t.Used.Amount)
		if read++; read > maxTotals || len(groups) > maxGroups {
			return nil, fault.New(fault.Unprocessable, "the report would be made of more than %d hours of models, or have more than %d groups: ask for a shorter time, or tell less apart", maxTotals, maxGroups).
				WithCode("usage_report_too_large")
		}
	}
	out := make([]Group, 0, len(groups))
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Mode, b.Mode))
	})
	return out, nil
}

// of returns the empty group that a total belongs to.
func (by By) of(t *Total) (g Group) {
	if by.Day {
		g.Start = t.Hour.Truncate(24 * time.Hour)
	}
	if by.Hour {
		g.Start = t.Hour
	}
	if by.Model {
		g.Model = t.Used.Model
	}
	if by.Version {
		g.Version = t.Used.Version
	}
	if by.Mode {
		g.Mode = t.Used.Mode
	}
	return g
}

func (g *Group) slot() slot { return slot{hour: g.Start.Unix(), What: g.What} }
