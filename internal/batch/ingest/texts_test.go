package ingest

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Texts of any lengths are those that were added, wherever blocks of them end.
func TestTexts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 40), rapid.SampledFrom([]int{textBlock - 1, textBlock, textBlock + 1, 2 * textBlock, 3*textBlock + 7})), 1, 60).Draw(rt, "lengths")
		var held texts
		var want [][]byte
		for i, n := range lengths {
			text := bytes.Repeat([]byte{byte('a' + i%26)}, n)
			want = append(want, slices.Clone(text))
			held.add(text)
			clear(text) // it is not held itself
		}
		for i := range want {
			if got := held.at(i); !bytes.Equal(got, want[i]) || got == nil {
				rt.Fatalf("text %d has %d bytes, expected %d", i, len(got), len(want[i]))
			}
		}
		if held.count != len(want) {
			rt.Fatalf("%d texts of %d", held.count, len(want))
		}
	})
	var many texts
	for i := range 2*endBlock + 3 {
		many.add([]byte{byte(i), byte(i >> 8)})
	}
	for i := range many.count {
		if got := many.at(i); len(got) != 2 || got[0] != byte(i) || got[1] != byte(i>>8) {
			t.Fatalf("text %d is %x", i, got)
		}
	}
}

// What texts take is what they have, and no more is taken and left behind while they grow.
func TestTextsTakeWhatTheyHave(t *testing.T) {
	const n, each = 1 << 20, 7
	text := []byte("abcdefg")
	took := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			var held texts
			for range n {
				held.add(text)
			}
		}
	}).AllocedBytesPerOp()
	if has := int64(n * (each + 4)); took > has+has/8 {
		t.Errorf("texts of %d bytes with their ends take %d", has, took)
	}
}
