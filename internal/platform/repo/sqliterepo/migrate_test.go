package sqliterepo

import (
	"context"
	"testing"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

func migrate(d *stored, t *testing.T, s *repo.Schema) error {
	t.Helper()
	return d.Migrate(t.Context(), []*repo.Schema{s})
}

func (d *stored) script(t *testing.T, sql string) {
	t.Helper()
	if err := d.writer.run(t.Context(), func(c *conn) error { return c.Script(sql) }); err != nil {
		t.Fatal(err)
	}
}

func TestMigrationsThatCannotBe(t *testing.T) {
	retyped := items.Schema()
	retyped.Columns[1].Type = spec.TypeText
	odd := items.Schema()
	odd.Columns[0].Name = `x" TEXT); DROP TABLE outbox; --`
	for name, test := range map[string]struct {
		before string
		schema *repo.Schema
		code   string
	}{
		"a newer store":       {"INSERT INTO migrations VALUES (99, 'later', 'x', 0)", items.Schema(), "schema_newer"},
		"a changed migration": {"UPDATE migrations SET checksum = 'x'", items.Schema(), "schema_changed"},
		"a retyped column":    {"SELECT 1", retyped, "schema_changed"},
		"an odd name":         {"SELECT 1", odd, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			d, store := newStore(t, storePath(t), Config{})
			d.script(t, test.before)
			if err := migrate(d, t, test.schema); !fault.Is(err, fault.Internal) || fault.CodeOf(err) != test.code {
				t.Errorf("got %v", err)
			}
			if err := add(t.Context(), store, "a"); err != nil {
				t.Errorf("the store is not what it was: %v", err)
			}
		})
	}
}

// A program that does not know a column makes records without it; one that does
// finds it filled.
func TestColumnThatSomeKnow(t *testing.T) {
	path := storePath(t)
	_, store := newStore(t, path, Config{})
	if err := add(t.Context(), store, "first"); err != nil {
		t.Fatal(err)
	}
	less := items
	less.Columns = items.Columns[1:]
	d := openPath(t, path, Config{})
	if err := migrate(d, t, less.Schema()); err != nil {
		t.Fatal(err)
	}
	if err := repo.New(d, repo.Config{}).Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error { return less.Add(ctx, tx, newItem("second", 2)) }); err != nil {
		t.Fatal(err)
	}
	_, store = newStore(t, path, Config{})
	for _, id := range []itemID{"first", "second"} {
		page, err := items.Find(t.Context(), store.Read(who), spec.Query[item]{Where: itemName.Eq("name of " + string(id)), Order: itemName.Asc()})
		if err != nil || len(page.Items) != 1 || page.Items[0].ID != id {
			t.Errorf("%s: %+v, %v", id, page, err)
		}
	}
}

// A refill takes several batches.
func TestRefill(t *testing.T) {
	const n = 2*refillBatch + 7
	path := storePath(t)
	less := items
	less.Columns = nil
	d := openPath(t, path, Config{})
	if err := migrate(d, t, less.Schema()); err != nil {
		t.Fatal(err)
	}
	d.script(t, fillSQL(n, false))
	_, store := newStore(t, path, Config{})
	if got, err := items.Count(t.Context(), store.Read(who), itemName.StartsWith("name 0")); err != nil || got != n {
		t.Errorf("%d of %d records are filled, %v", got, n, err)
	}
}
