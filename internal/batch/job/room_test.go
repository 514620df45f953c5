package job

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/batch/ingest"
)

// A ledger is decoded into as much room as it takes, whatever texts the batch has.
func TestRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Batch{Model: `{"b":1}`, Metadata: map[string]string{rapid.OneOf(rapid.Just("b"), rapid.String()).Draw(t, "name"): `,{"b":{"b":`}}
		for i := range rapid.IntRange(0, 300).Draw(t, "chunks") {
			c := Chunk{Begin: ingest.Position{Row: int64(i)}, Rows: 1 + i, Taken: i%2 == 0}
			if i%3 == 0 {
				c.Done, c.Result = true, Object{Key: "a", SHA256: `{"b":`}
				c.Danger = &Danger{}
			}
			b.Chunks = append(b.Chunks, c)
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var got Batch
		Batches.Room(&got, text)
		if cap(got.Chunks) != len(b.Chunks) {
			t.Fatalf("room for %d chunks, there are %d", cap(got.Chunks), len(b.Chunks))
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b.Chunks, got.Chunks); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What the room saves of a ledger that grows while it is decoded.
func BenchmarkDecode(b *testing.B) {
	made := Batch{Chunks: make([]Chunk, 190)}
	for i := range made.Chunks {
		made.Chunks[i] = Chunk{Rows: 5000, Done: true, Until: time.Now(), Result: Object{Key: Key("acme", "batch_1"), Bytes: 1}}
	}
	text, err := json.Marshal(made)
	if err != nil {
		b.Fatal(err)
	}
	for _, room := range []bool{false, true} {
		b.Run(map[bool]string{false: "grown", true: "room"}[room], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var got Batch
				if room {
					Batches.Room(&got, text)
				}
				if err := json.Unmarshal(text, &got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
