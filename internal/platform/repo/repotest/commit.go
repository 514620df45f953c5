package repotest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// put returns a write of a thing as a driver gets it.
func put(tenant, id string, expect int64) repo.Put {
	at := epoch
	return repo.Put{Expect: expect, Record: repo.Record{
		Key: repo.Key{Tenant: tenant, Kind: things.Name, ID: id}, Version: expect + 1, CreatedAt: at, UpdatedAt: at, CreatedBy: "usr_1", UpdatedBy: "usr_1",
		Doc: []byte(`{"name":"x"}`), Fields: []spec.Value{spec.TextValue("x"), spec.IntValue(0), spec.FloatValue(0), spec.BoolValue(false), spec.TimeValue(at)},
	}}
}

// What Commit refuses, with what, and that nothing of it happens.
func testCommit(t *testing.T, f *fixture) {
	tenant := scope().Tenant
	mark := repo.Mark{Consumer: "c", Message: uuid.NewString(), ExpiresAt: f.clock.Now().Add(time.Hour)}
	other := repo.Mark{Consumer: "c", Message: uuid.NewString(), ExpiresAt: mark.ExpiresAt}
	commit := func(c repo.Changeset) error {
		c.ID = uuid.NewString()
		return f.driver.Commit(ctx, &c)
	}
	must(t, commit(repo.Changeset{Puts: []repo.Put{put(tenant, "a", 0)}, Marks: []repo.Mark{mark}}))
	for what, test := range map[string]struct {
		c    repo.Changeset
		want error
		many bool // needs MultiAggregate
	}{
		"a record that is there":                        {c: repo.Changeset{Puts: []repo.Put{put(tenant, "a", 0)}}, want: repo.ErrExists},
		"a version that is past":                        {c: repo.Changeset{Puts: []repo.Put{put(tenant, "a", 2)}}, want: repo.ErrConflict},
		"a record that is not there":                    {c: repo.Changeset{Puts: []repo.Put{put(tenant, "b", 1)}}, want: repo.ErrConflict},
		"a mark that is there, with a put":              {c: repo.Changeset{Puts: []repo.Put{put(tenant, "a", 1)}, Marks: []repo.Mark{mark}}, want: repo.ErrProcessed},
		"a mark that is there, with a record that is":   {c: repo.Changeset{Puts: []repo.Put{put(tenant, "a", 0)}, Marks: []repo.Mark{mark}}, want: repo.ErrProcessed},
		"a mark that is there, with a check that fails": {c: repo.Changeset{Checks: []repo.Check{{Key: put(tenant, "a", 0).Key, Version: -1}}, Marks: []repo.Mark{mark}}, want: repo.ErrProcessed},
		"a new mark, with a check that fails":           {c: repo.Changeset{Checks: []repo.Check{{Key: put(tenant, "a", 0).Key, Version: -1}}, Marks: []repo.Mark{other}}, want: repo.ErrConflict},
		"the same again":                                {c: repo.Changeset{Checks: []repo.Check{{Key: put(tenant, "b", 0).Key, Version: -1}}, Marks: []repo.Mark{other}}, want: repo.ErrConflict},
		"erasing a version that is past":                {c: repo.Changeset{Puts: []repo.Put{{Record: put(tenant, "a", 2).Record, Expect: 2, Erase: true}}}, want: repo.ErrConflict},
		"a fine record and a wrong version":             {c: repo.Changeset{Puts: []repo.Put{put(tenant, "b", 0), put(tenant, "a", 7)}}, want: repo.ErrConflict, many: true},
		"a check of a past version":                     {c: repo.Changeset{Puts: []repo.Put{put(tenant, "b", 0)}, Checks: []repo.Check{{Key: put(tenant, "a", 0).Key, Version: 2}}}, want: repo.ErrConflict, many: true},
		"a check that there is none":                    {c: repo.Changeset{Puts: []repo.Put{put(tenant, "b", 0)}, Checks: []repo.Check{{Key: put(tenant, "a", 0).Key}}}, want: repo.ErrConflict, many: true},
	} {
		for i := range test.c.Puts {
			m := repo.Message{ID: "evt_" + uuid.NewString(), Key: test.c.Puts[i].Key, Sequence: 9, Stream: repo.StreamEvents, Type: "thing.changed", Version: 1, Time: epoch, Data: []byte(`{}`), Keep: true}
			test.c.Messages = append(test.c.Messages, m)
		}
		err := commit(test.c)
		if test.many && !f.features.MultiAggregate {
			if !fault.Is(err, fault.Unsupported) || fault.CodeOf(err) != "one_aggregate_only" {
				t.Errorf("%s: %v, expected code one_aggregate_only", what, err)
			}
		} else if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, expected %v", what, err, test.want)
		}
		if _, err := f.driver.Get(ctx, put(tenant, "b", 0).Key); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: the fine part happened: %v", what, err)
		}
		if r, err := f.driver.Get(ctx, put(tenant, "a", 0).Key); err != nil || r.Version != 1 {
			t.Errorf("%s: the record is %+v, %v", what, r, err)
		}
		if h, err := f.driver.History(ctx, put(tenant, "a", 0).Key, 0, 10); err != nil || len(h) > 0 {
			t.Errorf("%s: the history is %+v, %v", what, h, err)
		}
	}
	for _, m := range f.drain(t) {
		if m.Tenant == tenant {
			t.Errorf("a changeset that was refused left a message: %+v", m)
		}
	}
	// The same through units of work.
	s := scope()
	err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
		return errors.Join(things.Add(ctx, tx, newThing("a", thing{})), things.Add(ctx, tx, newThing("b", thing{})))
	})
	if f.features.MultiAggregate != (err == nil) || err != nil && fault.CodeOf(err) != "one_aggregate_only" {
		t.Errorf("two aggregates in a unit of work: %v", err)
	}
}
