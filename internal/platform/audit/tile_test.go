package audit

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The examples of c2sp.org/tlog-tiles.
func TestTileNames(t *testing.T) {
	for want, tile := range map[string]tlog.Tile{
		"tile/0/x001/x234/067":           {H: height, L: 0, N: 1234067, W: width},
		"tile/0/000":                     {H: height, L: 0, N: 0, W: width},
		"tile/1/000.p/17":                {H: height, L: 1, N: 0, W: 17},
		"tile/63/999":                    {H: height, L: 63, N: 999, W: width},
		"tile/entries/x001/x234/067":     {H: height, L: entries, N: 1234067, W: width},
		"tile/entries/x001/x234/067.p/8": {H: height, L: entries, N: 1234067, W: 8},
	} {
		if got := tileName(tile); got != want {
			t.Errorf("%+v is named %s, want %s", tile, got, want)
		}
		if got, ok := parseTile(want); !ok || got != tile {
			t.Errorf("%s is parsed as %+v, %t", want, got, ok)
		}
	}
	for _, bad := range []string{"tile/0/1", "tile/00/001", "tile/0/001.p/0", "tile/0/001.p/256", "tile/0/001.p/01", "tile/data/001",
		"tile/-1/001", "tile/0/x001", "tile/0/001/002", "tile/8/0/001", "tile/", "0/001", "tile/entries/entries/001"} {
		if tile, ok := parseTile(bad); ok && tileName(tile) != bad {
			t.Errorf("%q is parsed as %+v", bad, tile)
		} else if ok && bad != "tile/8/0/001" {
			t.Errorf("%q is taken for a tile", bad)
		}
	}
}

// "A tree of size 70,000 will be represented by 273 full level 0 tiles, one
// partial level 0 tile of width 112, one full level 1 tile, one partial level 1
// tile of width 17, and one partial level 2 tile of width 1."
func TestEdgeOfTheSpecification(t *testing.T) {
	want := []string{"tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"}
	var got []string
	for _, tile := range edge(70_000) {
		got = append(got, tileName(tile))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("edge is %v, want %v", got, want)
	}
}

func TestSplitBundleInvertsAppendLeaf(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 0, 20).Draw(rt, "leaves")
		var bundle []byte
		for _, leaf := range leaves {
			bundle = appendLeaf(bundle, leaf)
		}
		got, err := splitBundle(bundle)
		if err != nil || len(got) != len(leaves) {
			rt.Fatalf("got %d leaves, %v", len(got), err)
		}
		for i := range leaves {
			if !bytes.Equal(got[i], leaves[i]) {
				rt.Fatalf("leaf %d is %x, want %x", i, got[i], leaves[i])
			}
		}
	})
}

func FuzzSplitBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0})
	f.Add([]byte{0, 3, 'a'})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		leaves, err := splitBundle(bundle)
		if err != nil {
			return
		}
		var again []byte
		for _, leaf := range leaves {
			again = appendLeaf(again, leaf)
		}
		if !bytes.Equal(again, bundle) {
			t.Fatalf("%x splits, and joins to %x", bundle, again)
		}
	})
}

// A tree grown by any steps emits what package tlog, from its stored hashes,
// says must be stored, and has the same root.
func TestTreeAgreesWithTlog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 300), 1, 6).Draw(rt, "steps")
		var stored []tlog.Hash
		reference := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			hashes := make([]tlog.Hash, len(indexes))
			for i, index := range indexes {
				hashes[i] = stored[index]
			}
			return hashes, nil
		})
		grown := new(tree)
		for _, step := range steps {
			got := make(map[string][]byte)
			emit := func(o object) { got[tileName(o.tile)] = bytes.Clone(o.data) }
			old := grown.size
			for range step {
				leaf := fmt.Appendf(nil, "leaf %d", grown.size)
				hashes, err := tlog.StoredHashes(grown.size, leaf, reference)
				if err != nil {
					rt.Fatal(err)
				}
				stored = append(stored, hashes...)
				grown.add(leaf, emit)
			}
			grown.rest(emit)
			for _, tile := range tlog.NewTiles(height, old, grown.size) {
				want, err := tlog.ReadTileData(tile, reference)
				if err != nil || !bytes.Equal(got[tileName(tile)], want) {
					rt.Fatalf("%s is not what tlog says (%v)", tileName(tile), err)
				}
				delete(got, tileName(tile))
			}
			for name := range got {
				if tile, _ := parseTile(name); tile.L != entries {
					rt.Fatalf("%s is emitted from size %d to %d, tlog does not want it", name, old, grown.size)
				}
			}
			want, err := tlog.TreeHash(grown.size, reference)
			if root, rootErr := grown.root(); err != nil || rootErr != nil || root != want {
				rt.Fatalf("root is %v, want %v (%v, %v)", root, want, err, rootErr)
			}
		}
	})
}
