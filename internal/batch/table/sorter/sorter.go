// Package sorter puts the rows of a table in order, however many they are, in bounded
// memory: runs that fit into it are sorted and kept in files, which are then merged
// (Knuth, The Art of Computer Programming, volume 3, 5.4).
//
// Rows that are equal in all keys keep the order in which they were added, so that
// the result depends on nothing but the rows.
package sorter

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Key is a column to sort by. Texts are compared byte by byte, false is before true,
// and nulls are last, whichever the direction.
type Key struct {
	Column     int
	Descending bool
}

// Config bounds what a Sorter takes; the zero value has defaults.
type Config struct {
	Memory int    // bytes of rows that are held; default 32 MiB
	Disk   int64  // bytes of files; default 20 GiB
	Dir    string // where files are; the system's folder for such where it is empty
}

// fan is how many runs are merged at a time, each with a block in memory, and block
// how many bytes that has, about.
const (
	fan       = 64
	blockSize = 128 << 10
)

// Sorter sorts one table. It is not for concurrent use.
type Sorter struct {
	keys []Key
	cfg  Config
	held *table.Chunk // not yet in a run
	rows []int        // of held, to be sorted
	runs []*run       // in the order of what they hold; levels never rise
	disk int64        // bytes of all runs
	out  merged       // once there is one
}

// New returns a sorter of a table with the schema. Close it.
func New(schema table.Schema, keys []Key, cfg Config) *Sorter {
	cfg.Memory, cfg.Disk = cmp.Or(cfg.Memory, 32<<20), cmp.Or(cfg.Disk, 20<<30)
	return &Sorter{keys: keys, cfg: cfg, held: table.NewChunk(schema)}
}

// First returns the first rows of a chunk in their order, at most so many.
func First(c *table.Chunk, keys []Key, most int) *table.Chunk {
	s := &Sorter{keys: keys, held: c}
	s.sort()
	out := table.NewChunk(c.Schema())
	for _, row := range s.rows[:min(most, len(s.rows))] {
		appendRow(out, c, row)
	}
	return out
}

// Add takes the rows of a chunk, and keeps nothing of it. Rows that take more disk
// than they may are fault.Unprocessable, code sort_too_large; once ctx has ended, its error
// may be returned.
func (s *Sorter) Add(ctx context.Context, c *table.Chunk) error {
	for row := range c.Rows() {
		appendRow(s.held, c, row)
	}
	if s.held.Bytes()+8*s.held.Rows() < s.cfg.Memory {
		return nil
	}
	return s.spill(ctx)
}

// Read resets the chunk and fills it with the next rows in their order, or returns
// io.EOF after the last. After the first Read nothing may be added.
func (s *Sorter) Read(into *table.Chunk) error {
	if s.out.sources == nil {
		s.sort()
		s.out = s.merge(s.runs)
		s.out.sources = append(s.out.sources, &held{s.held, s.rows})
		if err := s.out.begin(); err != nil {
			return err
		}
	}
	return s.out.read(into)
}

// Close drops the files.
func (s *Sorter) Close() {
	for _, r := range s.runs {
		r.close()
	}
	s.runs = nil
}

// sort puts the rows that are held in order.
func (s *Sorter) sort() {
	s.rows = s.rows[:0]
	for i := range s.held.Rows() {
		s.rows = append(s.rows, i)
	}
	slices.SortStableFunc(s.rows, func(a, b int) int { return s.compare(s.held, a, s.held, b) })
}

// spill makes a run of what is held, and one run of every fan of a level.
func (s *Sorter) spill(ctx context.Context) error {
	s.sort()
	if err := s.keep(ctx, 0, &held{s.held, s.rows}); err != nil {
		return err
	}
	s.held.Reset()
	for n := len(s.runs); n >= fan && s.runs[n-fan].level == s.runs[n-1].level; n = len(s.runs) {
		last := slices.Clone(s.runs[n-fan:])
		m := s.merge(last)
		if err := m.begin(); err != nil {
			return err
		}
		s.runs = s.runs[:n-fan]
		err := s.keep(ctx, last[0].level+1, &m)
		for _, r := range last {
			s.disk -= r.size
			r.close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep writes the rows of a source into a new run.
func (s *Sorter) keep(ctx context.Context, level int, from source) error {
	r, err := newRun(s.cfg.Dir, level, s.held.Schema())
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	block := table.NewChunk(s.held.Schema())
	for {
		c, row, ok := from.row()
		if ok {
			appendRow(block, c, row)
			if err := from.next(); err != nil {
				return err
			}
		}
		if n := block.Bytes(); n >= blockSize || !ok && n > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.write(block); err != nil {
				return err
			}
			if s.disk+r.size > s.cfg.Disk {
				return tooLarge(s.cfg.Disk)
			}
			block.Reset()
		}
		if !ok {
			s.disk += r.size
			return r.rewind()
		}
	}
}

func appendRow(into, from *table.Chunk, row int) {
	for i := range into.Schema() {
		into.Column(i).AppendCell(from.Column(i), row)
	}
}

// compare orders two rows by the keys.
func (s *Sorter) compare(a *table.Chunk, i int, b *table.Chunk, j int) int {
	for _, k := range s.keys {
		x, y := a.Column(k.Column), b.Column(k.Column)
		if x.Null(i) || y.Null(j) {
			if x.Null(i) != y.Null(j) {
				return order(x.Null(i))
			}
			continue
		}
		if c := compare(x, i, y, j); c != 0 {
			if k.Descending {
				return -c
			}
			return c
		}
	}
	return 0
}

func compare(x *table.Column, i int, y *table.Column, j int) int {
	switch x.Type {
	case table.String, table.JSON:
		return bytes.Compare(x.Text(i), y.Text(j))
	case table.Float:
		return cmp.Compare(x.Floats[i], y.Floats[j])
	case table.Float32:
		return cmp.Compare(x.Float32s[i], y.Float32s[j])
	case table.Bool:
		if x.Bools[i] == y.Bools[j] {
			return 0
		}
		return order(x.Bools[i])
	default:
		return cmp.Compare(x.Ints[i], y.Ints[j])
	}
}

// order has true after false.
func order(first bool) int {
	if first {
		return 1
	}
	return -1
}

func tooLarge(limit int64) error {
	return fault.New(fault.Unprocessable, "sorting takes more than %d bytes of disk: choose less by from, to, filters or columns, or do not sort", limit).WithCode("sort_too_large")
}
