package sqliterepo

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

//go:embed migrations/*.sql
var files embed.FS

const ledger = `CREATE TABLE IF NOT EXISTS migrations (
	version    INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL,
	checksum   TEXT    NOT NULL, -- SHA-256 of the file
	applied_at INTEGER NOT NULL  -- seconds since 1970
) STRICT`

// refillBatch is how many records a transaction fills; others can write between
// two of them.
const refillBatch = 500

// Migrate implements repo.Driver. Each step is a transaction that holds the
// file's lock, so processes that migrate at the same time take turns, and each
// finds what the others have done.
//
// A column that this program does not know is left as it is, but not trusted
// any more: a program that knows it fills it again.
func (d *Driver) Migrate(ctx context.Context, schemas []*repo.Schema) error {
	var all []*table
	for _, s := range schemas {
		t, err := newTable(s)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	if err := d.writer.run(ctx, migrateFixed); err != nil {
		return err
	}
	for _, s := range schemas {
		if err := d.migrateKind(ctx, s); err != nil {
			return fmt.Errorf("migrating %s: %w", s.Kind, err)
		}
	}
	d.tables.set(all)
	return d.writer.run(ctx, func(c *conn) error {
		// What the planner goes by where several indexes might do.
		return c.Script("PRAGMA analysis_limit = 400; PRAGMA optimize = 0x10002")
	})
}

// migrateFixed applies the migrations that the store does not have yet.
func migrateFixed(c *conn) error {
	if err := c.Script(ledger); err != nil {
		return err
	}
	applied := map[int64]string{}
	err := c.Query(context.Background(), newStatement("SELECT version, checksum FROM migrations"), func(row []value) error {
		r := reader{row: row}
		applied[r.integer()] = r.text()
		return nil
	})
	if err != nil {
		return err
	}
	entries, err := files.ReadDir("migrations")
	if err != nil {
		return err
	}
	for version := range applied {
		if version > int64(len(entries)) {
			return fault.New(fault.Internal, "the store has version %d, this program knows version %d: run the newer program", version, len(entries)).WithCode("schema_newer")
		}
	}
	for i, e := range entries {
		if err := apply(c, int64(i+1), e.Name(), applied[int64(i+1)]); err != nil {
			return err
		}
	}
	return nil
}

// apply applies a migration, or checks that it is the one that was applied.
func apply(c *conn, version int64, name, applied string) error {
	if !strings.HasPrefix(name, fmt.Sprintf("%04d_", version)) {
		return fault.New(fault.Internal, "migration %d is called %s", version, name)
	}
	text, err := files.ReadFile("migrations/" + name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	checksum := hex.EncodeToString(sum[:])
	switch applied {
	case checksum:
		return nil
	case "":
		if err := c.Script(string(text)); err != nil {
			return err
		}
		return c.Exec(newStatement("INSERT INTO migrations VALUES (?, ?, ?, unixepoch())", version, name, checksum))
	default:
		return fault.New(fault.Internal, "migration %s is not the one that was applied to the store: migrations are never changed, only added", name).WithCode("schema_changed")
	}
}

// migrateKind brings the table of a kind to its schema.
func (d *Driver) migrateKind(ctx context.Context, s *repo.Schema) error {
	var fill bool
	err := d.writer.run(ctx, func(c *conn) (err error) {
		fill, err = prepareKind(c, s)
		return err
	})
	if err != nil {
		return err
	}
	for after := [2]value{"", ""}; fill; {
		err := d.writer.run(ctx, func(c *conn) (err error) {
			fill, err = refill(c, s, &after)
			return err
		})
		if err != nil {
			return err
		}
	}
	return d.writer.run(ctx, func(c *conn) error { return finishKind(c, s) })
}

var sqlTypes = map[spec.Type]string{spec.TypeText: "TEXT NOT NULL DEFAULT ''", spec.TypeInt: "INTEGER NOT NULL DEFAULT 0", spec.TypeFloat: "REAL NOT NULL DEFAULT 0",
	spec.TypeBool: "INTEGER NOT NULL DEFAULT 0", spec.TypeTime: "INTEGER NOT NULL DEFAULT 0"}

// prepareKind makes the table and the columns that are missing, and says whether
// there are any to fill.
func prepareKind(c *conn, s *repo.Schema) (fill bool, err error) {
	err = c.Script(fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %[1]s (
		tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL,
		created_at INTEGER NOT NULL, created_by TEXT NOT NULL, updated_at INTEGER NOT NULL, updated_by TEXT NOT NULL,
		deleted_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, doc BLOB NOT NULL,
		PRIMARY KEY (tenant, id)) STRICT, WITHOUT ROWID;
		CREATE INDEX IF NOT EXISTS %[1]s__expires ON %[1]s (expires_at) WHERE expires_at < %[2]d`, tableName(s.Kind), int64(never)))
	if err != nil {
		return false, err
	}
	there := map[string]string{}
	err = c.Query(context.Background(), newStatement("SELECT name, type, filled FROM kind_columns WHERE kind = ?", s.Kind), func(row []value) error {
		r := reader{row: row}
		name := r.text()
		there[name] = r.text()
		fill = fill || r.integer() == 0 && s.Index(name) >= 0
		return nil
	})
	if err != nil {
		return false, err
	}
	for _, column := range s.Columns {
		switch old := there[column.Name]; old {
		case column.Type.String():
		case "":
			fill = true
			if err := addColumn(c, s.Kind, column); err != nil {
				return false, err
			}
		default:
			return false, fault.New(fault.Internal, "column %s of %s holds %s in the store and %s in this program: a column is never retyped, add one of another name", column.Name, s.Kind, old, column.Type).WithCode("schema_changed")
		}
		delete(there, column.Name)
	}
	return fill, distrust(c, s.Kind, there)
}

func addColumn(c *conn, kind string, column repo.Column) error {
	err := c.Script(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", tableName(kind), columnName(column.Name), sqlTypes[column.Type]))
	if err != nil {
		return err
	}
	return c.Exec(newStatement("INSERT INTO kind_columns VALUES (?, ?, ?, 0)", kind, column.Name, column.Type.String()))
}

// distrust notes that columns will hold wrong values from now on.
func distrust(c *conn, kind string, unknown map[string]string) error {
	for name := range unknown {
		if err := c.Script("DROP INDEX IF EXISTS " + indexName(kind, name)); err != nil {
			return err
		}
		if err := c.Exec(newStatement("UPDATE kind_columns SET filled = 0 WHERE kind = ? AND name = ?", kind, name)); err != nil {
			return err
		}
	}
	return nil
}

func indexName(kind, column string) string { return tableName(kind) + "__" + columnName(column) }

// refill fills the columns of the next records, and says whether there may be
// more.
func refill(c *conn, s *repo.Schema, after *[2]value) (more bool, err error) {
	var records []repo.Record
	st := newStatement(fmt.Sprintf("SELECT %s FROM %s WHERE (tenant, id) > (?, ?) ORDER BY tenant, id LIMIT %d", strings.Join(fixed, ", "), tableName(s.Kind), refillBatch), after[0], after[1])
	err = c.Query(context.Background(), st, func(row []value) error {
		r, err := record(s.Kind, nil, row)
		records = append(records, r)
		return err
	})
	if err != nil || len(records) == 0 || len(s.Columns) == 0 {
		return false, err
	}
	update := fmt.Sprintf("UPDATE %s SET %s = ? WHERE tenant = ? AND id = ?", tableName(s.Kind), strings.Join(columnNames(s), " = ?, "))
	for i := range records {
		r := &records[i]
		if err := s.Refill(r); err != nil {
			return false, err
		}
		st := newStatement(update)
		for _, f := range r.Fields {
			st.Bind(argument(f))
		}
		st.Bind(r.Tenant, r.ID)
		if err := c.Exec(st); err != nil {
			return false, err
		}
		*after = [2]value{r.Tenant, r.ID}
	}
	return len(records) == refillBatch, nil
}

// finishKind makes the indexes of columns that are filled now.
func finishKind(c *conn, s *repo.Schema) error {
	for _, column := range s.Columns {
		name := columnName(column.Name)
		err := c.Script(fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (tenant, %s, id, deleted_at, expires_at)", indexName(s.Kind, column.Name), tableName(s.Kind), name))
		if err != nil {
			return err
		}
	}
	filled := newStatement("UPDATE kind_columns SET filled = 1 WHERE filled = 0 AND kind = ? AND name IN ("+places(len(s.Columns))+")", s.Kind)
	for _, column := range s.Columns {
		filled.Bind(column.Name)
	}
	return c.Exec(filled)
}
