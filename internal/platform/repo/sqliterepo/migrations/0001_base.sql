-- Messages until a relay has published them, and for a while longer.
-- position is the order of commits. The index serves both halves: what was
-- published by time, and behind it what is pending, in order. A message that is
-- marked as published keeps its size and its neighbours, so that the outbox of a
-- full store drains.
CREATE TABLE outbox (
	position     INTEGER PRIMARY KEY,
	published_at INTEGER NOT NULL, -- microseconds since 1970, as all times; 9223372036854775807 while pending
	message      TEXT    NOT NULL,
	tenant       TEXT    NOT NULL,
	kind         TEXT    NOT NULL,
	id           TEXT    NOT NULL,
	sequence     INTEGER NOT NULL,
	stream       TEXT    NOT NULL,
	type         TEXT    NOT NULL,
	version      INTEGER NOT NULL,
	time         INTEGER NOT NULL,
	actor        TEXT    NOT NULL,
	request      TEXT    NOT NULL,
	correlation  TEXT    NOT NULL,
	causation    TEXT    NOT NULL,
	traceparent  TEXT    NOT NULL,
	data         BLOB
) STRICT;
CREATE INDEX outbox_published ON outbox (published_at);

-- The events of aggregates that keep them.
CREATE TABLE history (
	tenant      TEXT    NOT NULL,
	kind        TEXT    NOT NULL,
	id          TEXT    NOT NULL,
	sequence    INTEGER NOT NULL,
	message     TEXT    NOT NULL,
	stream      TEXT    NOT NULL,
	type        TEXT    NOT NULL,
	version     INTEGER NOT NULL,
	time        INTEGER NOT NULL,
	actor       TEXT    NOT NULL,
	request     TEXT    NOT NULL,
	correlation TEXT    NOT NULL,
	causation   TEXT    NOT NULL,
	traceparent TEXT    NOT NULL,
	data        BLOB,
	PRIMARY KEY (tenant, kind, id, sequence)
) STRICT, WITHOUT ROWID;

-- What consumers have handled.
CREATE TABLE inbox (
	consumer   TEXT    NOT NULL,
	message    TEXT    NOT NULL,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (consumer, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_expires ON inbox (expires_at);

-- The columns of the kinds' tables. One that is not filled yet has no index and
-- must not be trusted: records made before it, or by a program that did not know
-- it, hold a default.
CREATE TABLE kind_columns (
	kind   TEXT    NOT NULL,
	name   TEXT    NOT NULL,
	type   TEXT    NOT NULL,
	filled INTEGER NOT NULL,
	PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
