// Package scyllarepo is a repo.Driver on CQL: ScyllaDB, and Apache Cassandra,
// which speaks the same language.
//
// # One partition per aggregate
//
// A lightweight transaction spans one partition of one table. So all that a unit
// of work changes is rows of one partition of the table aggregates, and a
// changeset is one conditional batch there (Paxos; IF version = ?):
//
//	state  the record, its version and its stamp (see below)
//	out    messages that were not published yet, in the order of the commits
//	hist   messages that are kept, by their sequence
//	mark   what consumers have handled, with a time to live (see inbox.go)
//	done   that this very commit happened, for ten minutes
//
// A commit whose answer is lost is repeated until there is one: where the first
// try did happen, the repetition fails on the version, and a SERIAL read finds
// its row in done. Only where no answer comes until Config.CommitTimeout does
// Commit fail with ErrOutcomeUnknown.
//
// # Hints come before, and are removed after
//
// What other partitions hold are hints that lead to aggregates, never truth:
// they are written before the commit and removed after it. So there is no
// moment, a crash included, in which a committed thing has no hint; a hint that
// leads nowhere costs a look and is removed by who meets it. No background
// repair is needed, and queries are prompt.
//
// The table query_entries has a hint per queryable column of a record, under its value
// in a form whose bytes sort as the values do; one under its id; and one under
// the hour in which it expires. Find walks them, reads the records that they
// lead to, and believes only these. Entries are put and removed with timestamps
// made of the record's stamp, which grows by two with every version: a put for a
// version always beats a removal that knows only older ones, whoever's clock is
// late. An erased record leaves its stamp behind for a day.
//
// A partition holds the entries of one tenant, kind and column, live or deleted
// ones, in 8 buckets by the hash of the id, which Find merges: at about 100 bytes
// an entry, 8 million aggregates stay under the 100 MB that a partition should
// have at most, for 8 small reads in parallel a page.
//
// The table outbox_due has a hint per changeset with messages, by shard, minute
// and time. Pending follows them. One that leads to no message is removed once
// it is older than any commit takes and a SERIAL read has found nothing. What
// was published moves to outbox_sent, by shard and minute too. The minutes in
// use are listed in the table minutes, so that nothing is scanned.
//
// # Deletions
//
// Tombstones are kept from being read again by the minutes and hours, which are
// closed for good, and by gc_grace_seconds of an hour or a day in all tables of
// hints: there a row that comes back, because a replica was away, does no harm.
// The table aggregates keeps the default of ten days: repair it more often.
// Rows of the outbox are the only ones that a lightweight transaction writes and
// a plain statement removes: with their own timestamp plus an hour, not by a
// clock, as Paxos may write a row once more with a later timestamp than it had.
//
// # Limits
//
// One aggregate in a unit of work. Queries have a leading condition: by id, all
// of a kind or those equal to a value or one of 16; by a column, all or a range
// of it. Further conditions are checked record by record, Config.MaxExamined of
// them at most; the rest is spec.ErrUnsupported, as summaries are. Column values
// have at most 32 KiB.
//
// Columns that are added later are filled by Migrate. What processes of an older
// version write after that has no entries under the new columns until its next
// change by a newer one. Marks are forgotten by the store itself, so Purge of
// them has nothing to do. Clocks of the processes may differ by minutes, not by
// hours.
//
// The servers must sync their commit log before they answer: ScyllaDB does so for
// lightweight transactions; Cassandra needs commitlog_sync: batch.
package scyllarepo
