package audit

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	height   = 8           // of a tile, in levels of the tree
	width    = 1 << height // hashes or entries of a full tile
	entries  = -1          // level of the entry bundles, in tlog's counting
	maxEntry = 1<<16 - 1   // bytes of an entry in a bundle
)

// Names in a storage. Tiles are named by tileName.
const (
	checkpointName = "checkpoint"
	witnessedName  = "witnessed" // the last checkpoint with cosignatures
	pendingName    = "pending"   // the batch decided last, see commit
)

// tileName is the path of a tile as tlog-tiles has it: tile/<L>/<N>[.p/<W>],
// with "entries" for L in the case of bundles. Package tlog writes the height
// before the level.
func tileName(t tlog.Tile) string {
	rest := strings.TrimPrefix(t.Path(), "tile/8/")
	if bundle, ok := strings.CutPrefix(rest, "data/"); ok {
		rest = "entries/" + bundle
	}
	return "tile/" + rest
}

// parseTile is the inverse of tileName.
func parseTile(name string) (tlog.Tile, bool) {
	rest, ok := strings.CutPrefix(name, "tile/")
	if bundle, isBundle := strings.CutPrefix(rest, "entries/"); isBundle {
		rest = "data/" + bundle
	}
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	return t, ok && err == nil && tileName(t) == name
}

// replaced names the partial tiles that the full tile t replaces, in a log that
// had the size old before: none, if all of the tile is new.
func replaced(t tlog.Tile, old int64) []string {
	before := old>>(height*max(t.L, 0)) - t.N*width
	var names []string
	for t.W = 1; int64(t.W) <= before; t.W++ {
		names = append(names, tileName(t))
	}
	return names
}

// appendLeaf appends a leaf to a bundle, behind its length.
func appendLeaf(bundle, leaf []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(leaf)))
	return append(bundle, leaf...)
}

// splitBundle returns the leaves of a bundle, which share its memory.
func splitBundle(bundle []byte) ([][]byte, error) {
	leaves := make([][]byte, 0, width)
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, errors.New("half a length at its end")
		}
		n := 2 + int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < n {
			return nil, errors.New("its last entry is cut off")
		}
		leaves, bundle = append(leaves, bundle[2:n:n]), bundle[n:]
	}
	return leaves, nil
}
