package audit

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// sizes lie around the edges of tiles.
var sizes = []int{0, 1, 255, 256, 257, 65_535, 65_536, 65_537}

// Whole copies verify, and any change of any file that the checkpoint needs is
// found.
func TestVerifyAroundTileEdges(t *testing.T) {
	k := newTestKey(t)
	for _, size := range sizes {
		s := new(Memory)
		l := built(t, s, k, size)
		acceptsWhole(t, k, size, s, l)
		findsTampering(t, k, size, snapshot(s))
	}
}

func acceptsWhole(t *testing.T, k Key, size int, s *Memory, l *Log) {
	t.Helper()
	next := int64(0)
	trust := Trust{Keys: []PublicKey{k.Public()}, Saved: [][]byte{l.Checkpoint()}, Entry: func(e Logged) error {
		if e.Index != next || e.Entry != entry(int(next)) {
			t.Fatalf("entry %d is %+v", next, e)
		}
		next++
		return nil
	}}
	r := mustVerify(t, snapshot(s), trust, int64(size))
	if r.Unpublished != 0 || size > 0 && (!r.First.Equal(entry(0).Time) || !r.Last.Equal(entry(size-1).Time)) {
		t.Errorf("size %d: %+v", size, r)
	}
}

// tamper changes one file of a copy in some way, and says how. pick returns a
// number below n.
func tamper(pick func(n int) int, files fstest.MapFS, required []string) string {
	name := required[pick(len(required))]
	data := slices.Clone(files[name].Data)
	how := []string{"flip", "delete", "truncate", "append", "swap", "cut out", "exchange bytes"}[pick(7)]
	switch how {
	case "flip":
		data[pick(len(data))] ^= byte(1 + pick(255))
	case "delete":
		delete(files, name)
		return name + ": delete"
	case "truncate":
		data = data[:pick(len(data))]
	case "append":
		data = append(data, make([]byte, 1+pick(64))...)
	case "swap":
		other := required[pick(len(required))]
		files[name], files[other] = files[other], files[name]
		return name + ": swap with " + other
	case "cut out":
		from := pick(len(data))
		data = slices.Delete(data, from, from+1+pick(len(data)-from))
	case "exchange bytes":
		i, j := pick(len(data)), pick(len(data))
		data[i], data[j] = data[j], data[i]
	}
	files[name] = &fstest.MapFile{Data: data}
	return name + ": " + how
}

func findsTampering(t *testing.T, k Key, size int, whole fstest.MapFS) {
	t.Helper()
	trust := Trust{Keys: []PublicKey{k.Public()}}
	delete(whole, pendingName) // the writer's own
	required := []string{checkpointName}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		tile, ok := parseTile(name)
		if ok && (tile.W == width || slices.Contains(edge(int64(size)), tile)) {
			required = append(required, name)
		}
	}
	// found is false where a change made no difference.
	found := func(pick func(int) int) (how string, found bool) {
		files := maps.Clone(whole)
		how = tamper(pick, files, required)
		same := maps.EqualFunc(files, whole, func(a, b *fstest.MapFile) bool { return bytes.Equal(a.Data, b.Data) })
		return how, same || !verify(t, files, trust).OK()
	}
	if size < 1000 {
		rapid.Check(t, func(rt *rapid.T) {
			if how, ok := found(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }); !ok {
				rt.Fatalf("size %d: %s is not seen", size, how)
			}
		})
		return
	}
	for range 2 { // each takes half a second with the race detector
		if how, ok := found(rand.IntN); !ok {
			t.Fatalf("size %d: %s is not seen", size, how)
		}
	}
}

// Every partial tile that stays from an earlier checkpoint is checked, too.
func TestVerifyChecksEarlierTiles(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	l := open(t, s, k, Config{})
	for i := range 12 {
		mustAppend(t, l, entriesFrom(i*7, 7))
	}
	trust := Trust{Keys: []PublicKey{k.Public()}}
	whole := snapshot(s)
	for name, f := range whole {
		tile, ok := parseTile(name)
		if !ok {
			continue
		}
		for _, i := range []int{0, len(f.Data) / 2, len(f.Data) - 1} {
			files := maps.Clone(whole)
			data := slices.Clone(f.Data)
			data[i] ^= 4
			files[name] = &fstest.MapFile{Data: data}
			if r := verify(t, files, trust); r.OK() {
				t.Errorf("byte %d of %s (width %d) was changed unseen", i, name, tile.W)
			}
		}
	}
}

// What an attacker with the log's private key can do is seen by who has a
// checkpoint from elsewhere.
func TestVerifyAgainstSavedCheckpoints(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	l := open(t, s, k, Config{})
	var saved [][]byte
	short := make(map[int]fstest.MapFS)
	for i := range 40 {
		mustAppend(t, l, entriesFrom(i*10, 10))
		saved = append(saved, l.Checkpoint())
		short[i] = snapshot(s)
	}
	trust := Trust{Keys: []PublicKey{k.Public()}, Saved: saved}
	if r := mustVerify(t, snapshot(s), trust, 400); r.Compared != 40 {
		t.Errorf("compared with %d checkpoints", r.Compared)
	}
	// The checkpoint of an earlier size, with everything else still there and without.
	cut := snapshot(s)
	cut[checkpointName] = short[20][checkpointName]
	for _, files := range []fstest.MapFS{cut, short[20]} {
		if r := verify(t, files, trust); !strings.Contains(codes(r), Truncated) {
			t.Errorf("truncation: %+v", r)
		}
	}
	if r := verify(t, cut, Trust{Keys: trust.Keys}); r.Unpublished == 0 || !r.OK() {
		t.Errorf("an earlier checkpoint by itself: %+v", r)
	}
	// Another history of the same size, and a longer one; from the middle on.
	for _, size := range []int{400, 1000} {
		forked := new(Memory)
		f := open(t, forked, k, Config{})
		mustAppend(t, f, append(entriesFrom(0, 205), entriesFrom(5000, size-205)...))
		r := verify(t, snapshot(forked), trust)
		if want := strings.TrimSpace(strings.Repeat(Forked+" ", 20)); codes(r) != want {
			t.Errorf("fork of size %d: %s, want the 20 checkpoints from the change on", size, codes(r))
		}
	}
	other := open(t, new(Memory), newTestKey(t), Config{})
	trust.Saved = [][]byte{other.Checkpoint(), []byte("garbage")}
	if r := verify(t, snapshot(s), trust); codes(r) != BadCheckpoint+" "+BadCheckpoint {
		t.Errorf("saved checkpoints of another log and of none: %+v", r)
	}
}

// forge stores a log of arbitrary leaves that is signed with the right key.
func forge(t *testing.T, k Key, leaves [][]byte) *Memory {
	t.Helper()
	s, grown := new(Memory), new(tree)
	emit := func(o object) { s.put(tileName(o.tile), o.data) }
	for _, leaf := range leaves {
		grown.add(leaf, emit)
	}
	grown.rest(emit)
	root, err := grown.root()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Checkpoint{origin, grown.size, root}.sign([]Key{k})
	if err != nil {
		t.Fatal(err)
	}
	s.put(checkpointName, signed)
	return s
}

func TestVerifyFindsWhatTheWriterDidWrong(t *testing.T) {
	k := newTestKey(t)
	trust := Trust{Keys: []PublicKey{k.Public()}}
	var leaves [][]byte
	for i := range 600 {
		leaf, err := entry(i % 590).Encode()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	r := verify(t, snapshot(forge(t, k, leaves)), trust)
	if r.Found != 10 || r.Problems[0].Code != Duplicate || !strings.Contains(r.Problems[0].Message, "entries 0 and 590") {
		t.Errorf("ten ids twice: %+v", r)
	}
	leaves[300] = []byte(`{"v":1}`)
	r = verify(t, snapshot(forge(t, k, leaves[:590])), trust)
	if codes(r) != BadEntry || r.Entries != 589 || r.Problems[0].File != "tile/entries/001" {
		t.Errorf("an entry that is none: %+v", r)
	}
}

// Who can write everything but has no key makes entries and tiles that agree,
// and is left with a checkpoint that does not.
func TestVerifyFindsConsistentRewriting(t *testing.T) {
	k := newTestKey(t)
	s, rewritten := new(Memory), new(Memory)
	built(t, s, k, 300)
	mustAppend(t, open(t, rewritten, newTestKey(t), Config{}), append(entriesFrom(0, 299), entry(5000)))
	files := snapshot(rewritten)
	files[checkpointName] = snapshot(s)[checkpointName]
	if r := verify(t, files, Trust{Keys: []PublicKey{k.Public()}}); codes(r) != BadRoot {
		t.Errorf("%+v", r)
	}
}

// A signature of 68 bytes leaves two bits of its base64 unused.
func TestVerifyFindsAnotherSpelling(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	built(t, s, k, 3)
	files := snapshot(s)
	data := files[checkpointName].Data
	last := len(data) - len("=\n") - 1
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.IndexByte(alphabet, data[last])
	data[last] = alphabet[i^1]
	if r := verify(t, files, Trust{Keys: []PublicKey{k.Public()}}); codes(r) != BadCheckpoint {
		t.Errorf("%+v", r)
	}
}

func TestVerifyNamesWhatIsDamaged(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	built(t, s, k, 1000)
	trust := Trust{Keys: []PublicKey{k.Public()}}
	files := snapshot(s)
	delete(files, "tile/entries/001")
	if r := verify(t, files, trust); codes(r) != BadEntry || r.Problems[0].File != "tile/entries/001" || r.Entries != 744 {
		t.Errorf("one bundle is lost: %+v", r)
	}
	delete(files, "tile/0/001")
	if r := verify(t, files, trust); codes(r) != BadEntry+" "+BadTile || r.Entries != 256 {
		t.Errorf("its tile as well: %+v", r)
	}
	files = snapshot(s)
	files["tile/0/002"].Data[40]++
	if r := verify(t, files, trust); codes(r) != BadTile || r.Problems[0].File != "tile/0/002" {
		t.Errorf("one hash is changed: %+v", r)
	}
	files = snapshot(s)
	files["tile/readme"] = &fstest.MapFile{}
	if r := verify(t, files, trust); codes(r) != Unexpected {
		t.Errorf("another file: %+v", r)
	}
	for name := range files {
		if strings.HasPrefix(name, "tile/entries/") {
			files[name] = &fstest.MapFile{Data: []byte("x")}
		}
	}
	if r := verify(t, files, trust); r.Found != len(r.Problems) || r.Entries != 0 || r.OK() {
		t.Errorf("all bundles are damaged: %+v", r)
	}
}

func TestVerifyStops(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	built(t, s, k, 10)
	stop := errors.New("stop")
	_, err := Verify(t.Context(), snapshot(s), Trust{Keys: []PublicKey{k.Public()}, Entry: func(Logged) error { return stop }})
	if !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if r := verify(t, snapshot(s), Trust{Keys: []PublicKey{newTestKey(t).Public()}}); codes(r) != BadCheckpoint {
		t.Errorf("with another key: %+v", r)
	}
}

// Tile names that no size of ours reaches do no harm.
func TestVerifyPassesOverFarTiles(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	built(t, s, k, 300)
	files := snapshot(s)
	for _, far := range []tlog.Tile{{H: height, L: 63, N: 0, W: 1}, {H: height, L: 0, N: 1 << 60, W: 5}, {H: height, L: entries, N: 1<<62 - 1, W: width}} {
		files[tileName(far)] = &fstest.MapFile{Data: []byte("x")}
	}
	if r := mustVerify(t, files, Trust{Keys: []PublicKey{k.Public()}}, 300); r.Unpublished != 3 {
		t.Errorf("%+v", r)
	}
}
