package sqliterecord

import "sluice/internal/platform/sqlite"

// schema is the form of the file. Entries lie by tenant and time, so that what is
// appended goes to few pages. What repeats in them, the series, they name by number.
const schema = `
	CREATE TABLE IF NOT EXISTS tenants (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
	CREATE TABLE IF NOT EXISTS series (
		no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, experiment TEXT NOT NULL, arm TEXT NOT NULL,
		by_rule INTEGER NOT NULL, shadow INTEGER NOT NULL, bulk INTEGER NOT NULL,
		UNIQUE (tenant, model, version, experiment, arm, by_rule, shadow, bulk)) STRICT;
	CREATE TABLE IF NOT EXISTS entries (
		tenant INTEGER NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, attempt INTEGER NOT NULL, series INTEGER NOT NULL,
		outcome INTEGER NOT NULL, code TEXT, rows INTEGER NOT NULL, batch_rows INTEGER NOT NULL,
		decode INTEGER NOT NULL, queue INTEGER NOT NULL, infer INTEGER NOT NULL, encode INTEGER NOT NULL, total INTEGER NOT NULL,
		client_ref TEXT, input_digest BLOB, output_digest BLOB, steps INTEGER NOT NULL DEFAULT 0,
		PRIMARY KEY (tenant, at, id, attempt)) STRICT, WITHOUT ROWID;
	CREATE INDEX IF NOT EXISTS entries_attempts ON entries (tenant, id) WHERE attempt > 0; -- of which the id tells no time
	CREATE INDEX IF NOT EXISTS entries_refs ON entries (tenant, client_ref) WHERE client_ref IS NOT NULL;
	CREATE TABLE IF NOT EXISTS rollups (
		series INTEGER NOT NULL, minute INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, refused INTEGER NOT NULL,
		invalid INTEGER NOT NULL, cancelled INTEGER NOT NULL, rows INTEGER NOT NULL, latency BLOB NOT NULL,
		PRIMARY KEY (series, minute)) STRICT, WITHOUT ROWID;
	CREATE TABLE IF NOT EXISTS labels (
		series INTEGER NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, name TEXT NOT NULL, value TEXT, score REAL, observed INTEGER NOT NULL, labelled INTEGER NOT NULL,
		PRIMARY KEY (series, at, id, name)) STRICT, WITHOUT ROWID;
	CREATE TABLE IF NOT EXISTS scores (
		series INTEGER NOT NULL, minute INTEGER NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL, mean REAL NOT NULL, m2 REAL NOT NULL, lo REAL, hi REAL, -- the least and the greatest; NULL where nobody noted them
		PRIMARY KEY (series, minute, name)) STRICT, WITHOUT ROWID;
	CREATE TABLE IF NOT EXISTS contents (
		tenant INTEGER NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, attempt INTEGER NOT NULL, until INTEGER NOT NULL, content BLOB NOT NULL,
		UNIQUE (tenant, at, id, attempt)) STRICT;
	CREATE INDEX IF NOT EXISTS contents_until ON contents (until);
	CREATE TABLE IF NOT EXISTS shapes (
		series INTEGER NOT NULL, minute INTEGER NOT NULL, name TEXT NOT NULL, sketch BLOB NOT NULL,
		PRIMARY KEY (series, minute, name)) STRICT, WITHOUT ROWID;
	CREATE TABLE IF NOT EXISTS generations (n INTEGER NOT NULL) STRICT; -- of the numbers of series: grows when some are given up
	INSERT INTO generations SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM generations);
	CREATE TABLE IF NOT EXISTS log (identity TEXT NOT NULL) STRICT;
	INSERT INTO log SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM log);`

// form is the number of the schema, kept in the file.
const form = 4

// migrate brings the file into the form that the package knows.
func migrate(c *sqlite.Conn) error {
	if err := sqlite.Form(c, "the prediction log", form, schema); err != nil {
		return err
	}
	return c.Transaction(func() error { return widen(c) })
}

// later are the columns that tables of earlier forms have not.
var later = []struct{ table, column, kind string }{{"entries", "steps", "INTEGER NOT NULL DEFAULT 0"}, {"scores", "lo", "REAL"}, {"scores", "hi", "REAL"}}

// widen adds the columns that are not there.
func widen(c *sqlite.Conn) error {
	for _, l := range later {
		there, err := c.One(sqlite.New("SELECT count(*) FROM pragma_table_info(?) WHERE name = ?", l.table, l.column))
		if err == nil && there == 0 {
			err = c.Script("ALTER TABLE " + l.table + " ADD COLUMN " + l.column + " " + l.kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
