package registry

import (
	"context"
	"testing"
	"time"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// crossing has an alias be set after a number of looks.
func crossing(b *bed, after int) {
	looks := 0
	b.cfg.InUse = []InUse{func(context.Context, repo.Reading, string, int64) (string, error) {
		if looks++; looks > after {
			return "an alias names it", nil
		}
		return "", nil
	}}
}

// An alias that is set between the check and the commit of a deletion keeps its version;
// one that is set later still keeps the files.
func TestDeleteCrossesAlias(t *testing.T) {
	b := newBed(t)
	b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}}))
	remove := Delete{Model: "m", Number: 1, Expect: anything}
	crossing(b, 1)
	if err := b.Delete(b.ctx, remove); fault.CodeOf(err) != "version_in_use" {
		t.Errorf("between check and commit: %v", err)
	}
	if _, err := cqrs.Ask(b.ctx, b.bus, Find{Model: "m", Number: 1}); err != nil {
		t.Errorf("the version is gone: %v", err)
	}
	crossing(b, 2)
	if err := b.Delete(b.ctx, remove); err != nil {
		t.Fatal(err)
	}
	b.pass(8 * 24 * time.Hour)
	if n, err := b.Sweep(b.ctx); n != 0 || fault.CodeOf(err) != "version_in_use" || len(b.kept()) != 1 {
		t.Errorf("%d were purged, %v; %v are left", n, err, b.kept())
	}
	b.cfg.InUse = nil
	if n, err := b.Sweep(b.ctx); n != 1 || err != nil || len(b.kept()) != 0 {
		t.Errorf("%d were purged once the alias was elsewhere, %v", n, err)
	}
}

// An archiving that is taken back leaves the version where it was: what nobody has released
// is not, and what was archived before stays so.
func TestArchivingTakenBack(t *testing.T) {
	for _, was := range []Stage{Validated, Ready, Archived} {
		b := newBed(t)
		b.must(b.Register(b.ctx, Register{Model: "m", Sources: []Source{b.source(ModelFile, mlp)}, Hold: was == Validated}))
		if err := b.trials.Round(b.ctx); err != nil {
			t.Fatal(err)
		}
		archive := Note{Model: "m", Number: 1, Expect: anything, Change: func(*Notes) {}, Stage: Archived}
		if was == Archived {
			b.must(first(b.Change(b.ctx, archive)))
		}
		before := b.find("m", 1)
		crossing(b, 1)
		_, err := b.Change(b.ctx, archive)
		if moved := was != Archived; moved != (fault.CodeOf(err) == "version_in_use") {
			t.Errorf("what was %s: %v", was, err)
		}
		if v := b.find("m", 1); v.Stage != was || v.Hold != before.Hold || !v.ReadyAt.Equal(before.ReadyAt) {
			t.Errorf("what was %s is %+v", was, v)
		}
	}
}
