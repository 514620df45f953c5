package audit

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// history goes through all entries in order, as the writer did, and compares
// each tile that they fill with the copy's. It reports whether it came to the
// end: a bundle that cannot be read is passed over by means of its tile, so
// that one damaged file does not hide the next, but not where both are lost.
func (v *verifier) history(ctx context.Context) (bool, error) {
	v.compareMarks()
	for n := int64(0); n*width < v.head.Size; n++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		t := bundleTile(n, v.head.Size)
		leaves, err := v.read.bundle(n, v.head.Size)
		if err != nil {
			v.report.add(BadEntry, tileName(t), "%v", err)
			if !v.passOver(t) {
				return false, nil
			}
			continue
		}
		for _, leaf := range leaves {
			if err := v.entry(tileName(t), leaf); err != nil {
				return false, err
			}
			v.tree.addLeafHash(tlog.RecordHash(leaf), v.compareTile)
			v.compareMarks()
		}
	}
	v.tree.rest(v.compareTile)
	return true, nil
}

// passOver adds the hashes of the tile in place of a bundle's entries.
func (v *verifier) passOver(t tlog.Tile) bool {
	t.L = 0
	data, err := v.read.tile(t)
	if err != nil {
		v.report.add(BadTile, tileName(t), "%v; what follows cannot be checked", err)
		return false
	}
	for hash := range slices.Chunk(data, tlog.HashSize) {
		v.tree.addLeafHash(tlog.Hash(hash), v.compareTile)
		v.compareMarks()
	}
	return true
}

// entry takes note of one entry, and hands it on.
func (v *verifier) entry(file string, leaf []byte) error {
	e, err := Decode(leaf)
	if err != nil {
		v.report.add(BadEntry, file, "entry %d: %v", v.tree.size, err)
		return nil
	}
	r := v.report
	if r.Entries++; r.First.IsZero() || e.Time.Before(r.First) {
		r.First = e.Time
	}
	if e.Time.After(r.Last) {
		r.Last = e.Time
	}
	v.ids.add(e.ID)
	if v.trust.Entry == nil {
		return nil
	}
	return v.trust.Entry(Logged{v.tree.size, e})
}

// compareTile compares the hashes that follow from the entries with the copy's.
// Bundles are where those come from.
func (v *verifier) compareTile(o object) {
	if o.tile.L == entries {
		return
	}
	data, err := v.read.tile(o.tile)
	if err != nil {
		v.report.add(BadTile, tileName(o.tile), "%v", err)
		return
	}
	if !bytes.Equal(data, o.data) {
		v.report.add(BadTile, tileName(o.tile), "its hashes are not those of the entries")
	}
}

// compareMarks compares the history with the checkpoints of the size that it
// has reached.
func (v *verifier) compareMarks() {
	for ; v.next < len(v.marks) && v.marks[v.next].Size == v.tree.size; v.next++ {
		m := v.marks[v.next]
		if root, err := v.tree.root(); err != nil || root != m.Root {
			v.report.add(Forked, m.file, "at size %d it has the root %v, the copy %v", m.Size, m.Root, root)
		}
	}
}

// idSet finds ids that come twice, by a hash of 8 bytes each.
type idSet struct {
	seed   maphash.Seed
	hashes []uint64
}

// reserve makes room; a size that lies costs no more than 8 MiB.
func (s *idSet) reserve(n int64) {
	s.seed = maphash.MakeSeed()
	s.hashes = make([]uint64, 0, min(n, 1<<20))
}

func (s *idSet) hash(id string) uint64 { return maphash.String(s.seed, id) }

func (s *idSet) add(id string) { s.hashes = append(s.hashes, s.hash(id)) }

// repeated returns the hashes that more than one id has had, be it by chance.
func (s *idSet) repeated() map[uint64]bool {
	slices.Sort(s.hashes)
	found := make(map[uint64]bool)
	for i := 1; i < len(s.hashes); i++ {
		if s.hashes[i] == s.hashes[i-1] {
			found[s.hashes[i]] = true
		}
	}
	return found
}
