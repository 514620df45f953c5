package recordtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sluice/internal/inference/record"
)

func scoreOf(id record.ID, value string, score float64, observed time.Time) record.Label {
	return record.Label{ID: id, Name: "right", Value: json.RawMessage(value), Score: &score, Observed: observed}
}

// A label that came before the last attempt moves to it: it counts once, there.
func (s Suite) testLabelsBetweenAttempts(t *testing.T) {
	store, tenant, now, first := s.Open(t), someone(), time.Now(), base()
	id := record.ID(uuid.New())
	for i, score := range []float64{0, 0, 5} {
		e := made(tenant, first.Add(time.Duration(i)*time.Second), 0)
		e.ID, e.Attempt, e.Version = id, i+1, []string{"1", "2", "1"}[i]
		if err := store.Append(t.Context(), []*record.Entry{e}); err != nil {
			t.Fatal(err)
		}
		got, err := store.Label(t.Context(), tenant, []record.Label{scoreOf(id, "1", score, first)}, now.Add(time.Duration(i)*time.Millisecond))
		if want := []record.Labelled{record.Added, record.Unchanged, record.Replaced}[i]; err != nil || got[0] != want {
			t.Errorf("attempt %d: %v, %v, want %s", i+1, got, err, want)
		}
		rollups, err := store.Statistics(t.Context(), record.Filter{Tenant: tenant}, record.Grouping{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rollups {
			m, want := r.Scores["right"], int64(0)
			if r.Version == e.Version {
				want = 1
			}
			if m.N != want || m.N == 1 && m.Mean != score {
				t.Errorf("after attempt %d version %s has %+v, want %d of score %v", i+1, r.Version, m, want, score)
			}
		}
	}
}

// Numbers are the same however they are written; a new time of observation is kept.
func (s Suite) testLabelsAlike(t *testing.T) {
	store, tenant := s.Open(t), someone()
	e := made(tenant, base(), 0)
	if err := store.Append(t.Context(), []*record.Entry{e}); err != nil {
		t.Fatal(err)
	}
	first := base()
	later := first.Add(time.Hour)
	for i, step := range []struct {
		label record.Label
		want  record.Labelled
	}{
		{scoreOf(e.ID, "1", 1, first), record.Added}, {scoreOf(e.ID, "1.0", 1, first), record.Unchanged}, {scoreOf(e.ID, "1", 1, later), record.Replaced}, {scoreOf(e.ID, "1e0", 1, later), record.Unchanged},
		{scoreOf(e.ID, "true", 1, later), record.Replaced}, {scoreOf(e.ID, "true", 1, time.Time{}), record.Unchanged},
	} {
		got, err := store.Label(t.Context(), tenant, []record.Label{step.label}, time.Now())
		if err != nil || got[0] != step.want {
			t.Errorf("label %d: %v, %v, want %s", i, got, err, step.want)
		}
	}
}

// A name of several predictions labels none, one of several attempts the last; who has
// gone labels nothing.
func (s Suite) testLabelsByName(t *testing.T) {
	store, tenant := s.Open(t), someone()
	list := batch(tenant, base(), 4)
	id := record.ID(uuid.New())
	for i, e := range list {
		if e.ClientRef = "many"; i < 2 {
			e.ID, e.Attempt, e.ClientRef = id, i+1, "one"
		}
	}
	if err := store.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	labels := []record.Label{{ClientRef: "many", Name: "n"}, {ClientRef: "one", Name: "n"}, {ClientRef: "none", Name: "n"}, {Name: "n"}}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := store.Label(gone, tenant, labels, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("who had gone: %v", err)
	}
	got, err := store.Label(t.Context(), tenant, labels, time.Now())
	if want := []record.Labelled{record.Ambiguous, record.Added, record.Unknown, record.Unknown}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// A label that does not fit its prediction's experiment is not noted, and those beside it
// are. The experiment is the last attempt's; nobody is asked about what is not there.
func (s Suite) testLabelsThatDoNotFit(t *testing.T) {
	store, tenant := s.Open(t), someone()
	list := batch(tenant, base(), 3)
	list[0].Experiment, list[1].Experiment, list[2].Experiment = "earlier", "narrow", ""
	list[1].ID, list[0].Attempt, list[1].Attempt = list[0].ID, 1, 2
	if err := store.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var asked []string
	fits := func(experiment string) bool { asked = append(asked, experiment); return experiment != "narrow" }
	labels := []record.Label{scoreOf(list[0].ID, "7", 7, base()), scoreOf(list[2].ID, "7", 7, base()), scoreOf(record.ID(uuid.New()), "7", 7, base())}
	for i := range labels {
		labels[i].Fits = fits
	}
	got, err := store.Label(t.Context(), tenant, labels, time.Now())
	if want := []record.Labelled{record.Unfit, record.Added, record.Unknown}; err != nil || !slices.Equal(got, want) || !slices.Equal(asked, []string{"narrow", ""}) {
		t.Errorf("%v, %v, want %v; asked about %q", got, err, want, asked)
	}
	labels[0].Fits = nil
	if got, err = store.Label(t.Context(), tenant, labels[:1], time.Now()); err != nil || got[0] != record.Added {
		t.Errorf("what did not fit was noted before: %v, %v", got, err)
	}
}
