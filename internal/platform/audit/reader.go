package audit

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// reader reads the files of a log by name. It is a tlog.TileReader.
type reader func(name string) ([]byte, error)

// tile reads a tile or bundle, which must have exactly its width. Where a
// partial one is gone because the full one is there, it is cut from that.
func (r reader) tile(t tlog.Tile) ([]byte, error) {
	found := t
	data, err := r(tileName(found))
	if errors.Is(err, fs.ErrNotExist) && t.W < width {
		found.W = width
		data, err = r(tileName(found))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(fmt.Errorf("%s is missing", tileName(t)))
	}
	if err != nil {
		return nil, err
	}
	lengths, err := partLengths(found, data)
	if err != nil {
		return nil, damaged(fmt.Errorf("%s %w", tileName(found), err))
	}
	n := 0
	for _, length := range lengths[:t.W] {
		n += length
	}
	return data[:n], nil
}

// partLengths returns how many bytes each hash or entry of the tile takes.
func partLengths(t tlog.Tile, data []byte) ([]int, error) {
	var lengths []int
	if t.L == entries {
		leaves, err := splitBundle(data)
		if err != nil {
			return nil, fmt.Errorf("is cut off: %w", err)
		}
		for _, leaf := range leaves {
			lengths = append(lengths, 2+len(leaf))
		}
	} else {
		for rest := len(data); rest > 0; rest -= tlog.HashSize {
			lengths = append(lengths, min(rest, tlog.HashSize))
		}
	}
	if len(lengths) != t.W || t.L != entries && len(data)%tlog.HashSize != 0 {
		return nil, fmt.Errorf("has %d parts in %d bytes, expected %d", len(lengths), len(data), t.W)
	}
	return lengths, nil
}

// Height implements tlog.TileReader.
func (r reader) Height() int { return height }

// ReadTiles implements tlog.TileReader.
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := r.tile(t)
		if err != nil {
			return nil, err
		}
		all[i] = data
	}
	return all, nil
}

// SaveTiles implements tlog.TileReader; nothing is cached.
func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

// bundleTile is the tile of the n-th bundle of a log of the size.
func bundleTile(n, size int64) tlog.Tile {
	return tlog.Tile{H: height, L: entries, N: n, W: int(min(width, size-n*width))}
}

// bundle returns the leaves of the n-th bundle of a log of the size.
func (r reader) bundle(n, size int64) ([][]byte, error) {
	data, err := r.tile(bundleTile(n, size))
	if err != nil {
		return nil, err
	}
	return splitBundle(data)
}

// leaves calls yield for the leaves from index from on, up to size.
func (r reader) leaves(from, size int64, yield func(index int64, leaf []byte) error) error {
	for n := from / width; n*width < size; n++ {
		leaves, err := r.bundle(n, size)
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			index := n*width + int64(i)
			if index < from {
				continue
			}
			if err := yield(index, leaf); err != nil {
				return err
			}
		}
	}
	return nil
}
