package blob_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
)

// What is joined reads as one, from wherever one begins.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bucket := memblob.New(memblob.Config{})
		var all []byte
		var pieces []blob.Piece
		for i, text := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 9), 0, 5).Draw(rt, "texts") {
			key := "a/" + strconv.Itoa(i)
			if _, err := bucket.Put(t.Context(), key, bytes.NewReader(text), blob.PutOptions{}); err != nil {
				rt.Fatal(err)
			}
			sum := sha256.Sum256(text)
			pieces = append(pieces, blob.Piece{Key: key, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])})
			all = append(all, text...)
		}
		at := rapid.IntRange(0, len(all)).Draw(rt, "offset")
		r := blob.Join(t.Context(), bucket, pieces, int64(at))
		got, err := io.ReadAll(r)
		if err != nil || r.Close() != nil || !bytes.Equal(got, all[at:]) {
			rt.Fatalf("%q, %v, expected %q", got, err, all[at:])
		}
	})
}

func TestJoinTellsDamage(t *testing.T) {
	bucket := memblob.New(memblob.Config{})
	if _, err := bucket.Put(t.Context(), "a/b", bytes.NewReader([]byte("text")), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	pieces := []blob.Piece{{Key: "a/b", Bytes: 4, SHA256: hex.EncodeToString(make([]byte, 32))}}
	if _, err := io.ReadAll(blob.Join(t.Context(), bucket, pieces, 0)); fault.CodeOf(err) != blob.CodeChecksum {
		t.Error(err)
	}
	pieces = append(pieces, blob.Piece{Key: "a/c", Bytes: 4})
	if _, err := io.ReadAll(blob.Join(t.Context(), bucket, pieces[1:], 0)); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
