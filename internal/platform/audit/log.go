package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// Config are the settings of a Log. Zero values mean the defaults.
type Config struct {
	// Overlap are further keys that sign every checkpoint, and Trusted public
	// keys whose checkpoints are accepted on opening. To rotate the key, add the
	// new one to Overlap until all verifiers know it; then open with the new key
	// and trust the old one.
	Overlap []Key
	Trusted []PublicKey
	// Recent is how many of the last entries are remembered by id, 65 536 by
	// default. An entry delivered again must be among them, or be Known.
	Recent int
	// Known answers for older entries: it returns the index of those of the ids
	// that it knows. It is asked once per checkpoint, about ids that are not
	// recent. Nil knows nothing.
	Known func(ctx context.Context, ids []string) (map[string]int64, error)
	// MaxBatch is how many entries go into one checkpoint at most, and into one
	// Append; 4096 by default.
	MaxBatch int
	// Timeout bounds the writing of one checkpoint, 30 s by default. It goes on
	// where the context of an Append ends.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Overlap, c.Trusted = slices.Clone(c.Overlap), slices.Clone(c.Trusted)
	if c.Recent <= 0 {
		c.Recent = 1 << 16
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = 4096
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Known == nil {
		c.Known = func(context.Context, []string) (map[string]int64, error) { return nil, nil }
	}
	return c
}

// Log is the writer of an audit log, for any number of goroutines.
type Log struct {
	storage Storage
	key     Key
	cfg     Config

	mu      sync.Mutex
	waiting []*call
	now     Checkpoint // the published one
	signed  []byte     // as it is stored

	// turn is held by the caller that commits for all that wait. It guards what
	// follows.
	turn    chan struct{}
	tree    *tree  // nil where a commit ended unknown: see recover
	pending []byte // the batch decided last, as stored
	tried   []byte // the batch that may have been decided after it
	epoch   int64
	recent  *recent
	fenced  error // another writer has taken over; for good
}

// call is one Append. It is settled once, by whoever holds the turn.
type call struct {
	ids     []string
	leaves  [][]byte
	indexes []int64
	err     error
	done    chan struct{}
}

// Open opens the log in the storage, or begins an empty one. It finishes what a
// writer that died left unfinished, and takes over from one that did not: that
// one's next Append is refused. The origin of the log is the key's name.
//
// An error is fault.Conflict where another writer opened the log at the same
// time, fault.Unavailable where the storage failed, and fault.Internal where
// what it holds is damaged.
func Open(ctx context.Context, storage Storage, key Key, cfg Config) (*Log, error) {
	l := &Log{storage: storage, key: key, cfg: cfg.withDefaults(), turn: make(chan struct{}, 1)}
	for _, k := range l.keys() {
		if k.name != key.name || k.algorithm != signs || k.private == nil {
			return nil, invalidKey("key %s cannot sign the log %s", k, key.name)
		}
	}
	if err := l.open(ctx); err != nil {
		return nil, storageError(err)
	}
	return l, nil
}

func (l *Log) keys() []Key { return append([]Key{l.key}, l.cfg.Overlap...) }

// trusted returns the public keys whose signature under a checkpoint counts.
func (l *Log) trusted() []PublicKey {
	all := slices.Clone(l.cfg.Trusted)
	for _, k := range l.keys() {
		all = append(all, k.Public())
	}
	return all
}

// Append logs the entries, in their order, and returns the index of each. They
// are durable, signed and provable when it returns. An entry whose id is in the
// log already gets the index that it has there; the first content stays.
//
// Calls at the same time share a checkpoint. An error is fault.Invalid for an
// entry that does not validate, fault.TooLarge for more than Config.MaxBatch,
// fault.Conflict where another writer has taken over, and fault.Unavailable
// where the storage failed; where ctx ends first, it is ctx's error. After the
// last two the entries may be in the log or not: append them again.
func (l *Log) Append(ctx context.Context, list []Entry) ([]int64, error) {
	c, err := l.newCall(list)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, c)
	l.mu.Unlock()
	select {
	case <-c.done:
	case l.turn <- struct{}{}:
		l.commitWaiting(ctx, c)
		<-l.turn
	case <-ctx.Done():
		l.forget(c)
		return nil, ctx.Err()
	}
	return c.indexes, c.err
}

func (l *Log) newCall(list []Entry) (*call, error) {
	if len(list) > l.cfg.MaxBatch {
		return nil, fault.New(fault.TooLarge, "%d audit entries in one call, at most %d are taken", len(list), l.cfg.MaxBatch)
	}
	c := &call{done: make(chan struct{}), indexes: make([]int64, len(list))}
	for _, e := range list {
		leaf, err := e.Encode()
		if err != nil {
			return nil, err
		}
		c.ids, c.leaves = append(c.ids, e.ID), append(c.leaves, leaf)
	}
	return c, nil
}

// forget takes a call back that nobody has begun to commit.
func (l *Log) forget(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *call) bool { return w == c })
}

// commitWaiting commits until own is settled, at first along with as many
// others as fit.
func (l *Log) commitWaiting(ctx context.Context, own *call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeout)
	defer cancel()
	for {
		select {
		case <-own.done:
			return
		default:
		}
		calls := l.take()
		err := storageError(l.commit(ctx, calls))
		for _, c := range calls {
			c.err = err
			close(c.done)
		}
	}
}

func (l *Log) take() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.waiting) && size+len(l.waiting[n].leaves) <= l.cfg.MaxBatch {
		size += len(l.waiting[n].leaves)
		n++
	}
	taken := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return taken
}

// Checkpoint returns the signed checkpoint as published, for witnesses and for
// whoever saves it to compare a later one with.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.signed)
}

// Size returns how many entries the published checkpoint covers.
func (l *Log) Size() int64 { return l.published().Size }

func (l *Log) published() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// storageError is where what a storage said becomes a fault.
func storageError(err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return fault.Wrap(fault.Unavailable, err, "the storage of the audit log failed; the entries have to be appended again").WithCode("audit_storage")
}
