package audit

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// object is a file of the log.
type object struct {
	tile tlog.Tile
	data []byte
}

// tree is what of a log is needed to make it longer: its size, and its right
// edge, which are the partial tile of every level and the partial bundle. The
// writer and the verifier both grow one; what it emits is what must be stored.
type tree struct {
	size   int64
	levels [][]byte // hashes of the partial tile, lowest level first
	bundle []byte
	grown  int64 // the size at the last call of rest
}

// clone returns a tree that grows independently.
func (t *tree) clone() *tree {
	c := &tree{size: t.size, grown: t.grown, bundle: slices.Clone(t.bundle)}
	for _, hashes := range t.levels {
		c.levels = append(c.levels, slices.Clone(hashes))
	}
	return c
}

// add appends a leaf, and emits the bundle and the tiles that it fills.
func (t *tree) add(leaf []byte, emit func(object)) {
	if t.bundle == nil {
		t.bundle = make([]byte, 0, width*(2+len(leaf)+16)) // they are much alike
	}
	t.bundle = appendLeaf(t.bundle, leaf)
	if (t.size+1)%width == 0 {
		emit(object{tlog.Tile{H: height, L: entries, N: t.size / width, W: width}, t.bundle})
		t.bundle = nil
	}
	t.addLeafHash(tlog.RecordHash(leaf), emit)
}

// addLeafHash is add for one who does not keep bundles.
func (t *tree) addLeafHash(hash tlog.Hash, emit func(object)) {
	t.size++
	t.addHash(0, hash, emit)
}

func (t *tree) addHash(level int, hash tlog.Hash, emit func(object)) {
	if level == len(t.levels) {
		t.levels = append(t.levels, nil)
	}
	if t.levels[level] == nil {
		t.levels[level] = make([]byte, 0, width*tlog.HashSize)
	}
	t.levels[level] = append(t.levels[level], hash[:]...)
	if len(t.levels[level]) < width*tlog.HashSize {
		return
	}
	full := t.levels[level]
	t.levels[level] = nil
	emit(object{tlog.Tile{H: height, L: level, N: t.size>>(height*(level+1)) - 1, W: width}, full})
	t.addHash(level+1, tileRoot(full), emit)
}

// rest emits the partial bundle and tiles that changed since the last call.
func (t *tree) rest(emit func(object)) {
	old := t.grown
	t.grown = t.size
	if old != t.size && len(t.bundle) > 0 {
		emit(object{tlog.Tile{H: height, L: entries, N: t.size / width, W: int(t.size % width)}, t.bundle})
	}
	for _, tile := range edge(t.size) {
		if tile.L != entries && t.size>>(height*tile.L) != old>>(height*tile.L) {
			emit(object{tile, t.levels[tile.L]})
		}
	}
}

// edge lists the partial bundle and tiles of a tree of the size.
func edge(size int64) []tlog.Tile {
	var tiles []tlog.Tile
	if w := int(size % width); w > 0 {
		tiles = append(tiles, tlog.Tile{H: height, L: entries, N: size / width, W: w})
	}
	for level := 0; size>>(height*level) > 0; level++ {
		n := size >> (height * level)
		if w := int(n % width); w > 0 {
			tiles = append(tiles, tlog.Tile{H: height, L: level, N: n / width, W: w})
		}
	}
	return tiles
}

// root returns the Merkle tree hash of all leaves.
func (t *tree) root() (tlog.Hash, error) { return tlog.TreeHash(t.size, t) }

// ReadHashes implements tlog.HashReader for the hashes of the right edge.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		tile := tlog.TileForIndex(height, index)
		if tile.L >= len(t.levels) || tile.N != t.size>>(height*(tile.L+1)) {
			return nil, fmt.Errorf("hash %d is not at the edge of a tree of size %d", index, t.size)
		}
		hash, err := tlog.HashFromTile(tile, t.levels[tile.L], index)
		if err != nil {
			return nil, err
		}
		hashes[i] = hash
	}
	return hashes, nil
}

// tileRoot hashes a full tile's hashes up to their root.
func tileRoot(hashes []byte) tlog.Hash {
	row := make([]tlog.Hash, len(hashes)/tlog.HashSize)
	for i := range row {
		row[i] = tlog.Hash(hashes[i*tlog.HashSize:])
	}
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// loadTree reads the right edge of a tree, and checks it against the root.
func loadTree(at tlog.Tree, read reader) (*tree, error) {
	t := &tree{size: at.N, grown: at.N}
	for level := 0; at.N>>(height*level) > 0; level++ {
		t.levels = append(t.levels, nil)
	}
	for _, tile := range edge(at.N) {
		data, err := read.tile(tile)
		switch {
		case err != nil:
			return nil, err
		case tile.L == entries:
			t.bundle = data
		default:
			t.levels[tile.L] = data
		}
	}
	root, err := t.root()
	if err != nil {
		return nil, err
	}
	if root != at.Hash {
		return nil, damaged(fmt.Errorf("the tiles of size %d have the root %v, the checkpoint says %v", at.N, root, at.Hash))
	}
	return t, t.checkBundle()
}

// checkBundle compares the partial bundle with the hashes of its leaves.
func (t *tree) checkBundle() error {
	leaves, err := splitBundle(t.bundle)
	if err != nil {
		return damaged(err)
	}
	for i, leaf := range leaves {
		if tlog.RecordHash(leaf) != tlog.Hash(t.levels[0][i*tlog.HashSize:]) {
			return damaged(fmt.Errorf("entry %d is not the one that was logged", t.size-int64(len(leaves)-i)))
		}
	}
	return nil
}
