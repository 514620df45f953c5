package audit

import "context"

// Logged is an entry with its place in the log.
type Logged struct {
	Index int64
	Entry Entry
}

// Index puts logged entries into a read model that can be queried. The same
// entry may come more than once, always with the same index.
type Index func(ctx context.Context, logged []Logged) error

// Handler returns what consumes entries behind the outbox: it appends them to
// the log, and then hands them to the index. Deliver entries again until it
// returns nil. Between the two steps the log's memory of recent entries is all
// that knows them, so what has not been delivered successfully must not be more
// than Config.Recent entries behind.
func Handler(log *Log, index Index) func(ctx context.Context, list []Entry) error {
	return func(ctx context.Context, list []Entry) error {
		indexes, err := log.Append(ctx, list)
		if err != nil || len(list) == 0 {
			return err
		}
		logged := make([]Logged, len(list))
		for i, e := range list {
			logged[i] = Logged{indexes[i], e}
		}
		return index(ctx, logged)
	}
}

// Entries calls yield for the published entries from index from on, in order,
// until it returns an error: this is how an Index is built anew.
func (l *Log) Entries(ctx context.Context, from int64, yield func(Logged) error) error {
	err := l.reader(ctx).leaves(max(from, 0), l.Size(), func(index int64, leaf []byte) error {
		e, err := Decode(leaf)
		if err != nil {
			return damaged(err)
		}
		return yield(Logged{index, e})
	})
	return storageError(err)
}
