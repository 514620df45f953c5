package recordtest

import (
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// Series are grouped as they are read; more groups than the limit are refused.
func (s Suite) testGroups(t *testing.T) {
	store, tenant, from := s.Open(t), someone(), base()
	var list []*record.Entry
	for i, version := range []string{"1", "2", "3"} {
		e := made(tenant, from.Add(time.Duration(i)*time.Minute), 0)
		e.Version = version
		list = append(list, e)
	}
	if err := store.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	f := record.Filter{Tenant: tenant}
	whole := func(s record.Series) record.Series { return record.Series{Model: s.Model} }
	for _, step := range []struct {
		record.Grouping
		groups int // 0: too many
	}{
		{record.Grouping{Limit: 2}, 0}, {record.Grouping{Limit: 3}, 3}, {record.Grouping{Limit: 1, By: whole}, 1}, {record.Grouping{Limit: 2, By: whole, Step: time.Minute}, 0},
	} {
		got, err := store.Statistics(t.Context(), f, step.Grouping)
		if step.groups == 0 && fault.CodeOf(err) != "statistics_too_large" || step.groups > 0 && (err != nil || len(got) != step.groups) {
			t.Errorf("%d groups, %v, want %d", len(got), err, step.groups)
		}
	}
}
