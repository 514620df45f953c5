package blobtest

import (
	"bytes"
	"io"
	"strconv"
	"sync/atomic"
	"testing"

	"sluice/internal/platform/blob"
)

// Bench runs the benchmarks: writes and reads of small and large objects, and
// lists. Open returns an empty bucket.
func Bench(b *testing.B, open func(testing.TB) blob.Bucket) {
	b.Helper()
	for name, size := range map[string]int{"4KiB": 4 << 10, "8MiB": 8 << 20} {
		content := []byte(noise(1, size))
		b.Run("Put/"+name, func(b *testing.B) {
			bucket := open(b)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				benchPut(b, bucket, "bench/"+strconv.Itoa(i%64), content)
			}
		})
		b.Run("Get/"+name, func(b *testing.B) {
			bucket := open(b)
			benchPut(b, bucket, "bench/a", content)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				benchGet(b, bucket, "bench/a", blob.GetOptions{}, int64(size))
			}
		})
	}
	b.Run("PutParallel/4KiB", func(b *testing.B) {
		bucket, content := open(b), []byte(noise(1, 4<<10))
		var next atomic.Int64
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				benchPut(b, bucket, "bench/"+strconv.FormatInt(next.Add(1), 10), content)
			}
		})
	})
	b.Run("Range/4KiBof8MiB", func(b *testing.B) {
		bucket := open(b)
		benchPut(b, bucket, "bench/a", []byte(noise(1, 8<<20)))
		for i := int64(0); b.Loop(); i++ {
			benchGet(b, bucket, "bench/a", blob.GetOptions{Range: blob.Range{Offset: i % 2000 * 4096, Length: 4096}}, 4096)
		}
	})
	b.Run("Stat", func(b *testing.B) {
		bucket := open(b)
		benchPut(b, bucket, "bench/a", nil)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bucket.Stat(b.Context(), "bench/a"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List/500", func(b *testing.B) {
		bucket := open(b)
		for i := range 500 {
			benchPut(b, bucket, "bench/list/"+strconv.Itoa(i), nil)
		}
		for b.Loop() {
			if n := len(list(b, bucket, "bench/list", "")); n != 500 {
				b.Fatalf("%d keys", n)
			}
		}
	})
}

func benchPut(b *testing.B, bucket blob.Bucket, key string, content []byte) {
	if _, err := bucket.Put(b.Context(), key, bytes.NewReader(content), blob.PutOptions{}); err != nil {
		b.Fatal(err)
	}
}

func benchGet(b *testing.B, bucket blob.Bucket, key string, opts blob.GetOptions, want int64) {
	obj, err := bucket.Get(b.Context(), key, opts)
	if err != nil {
		b.Fatal(err)
	}
	defer obj.Body.Close()
	if n, err := io.Copy(io.Discard, obj.Body); err != nil || n != want {
		b.Fatalf("%d bytes, %v", n, err)
	}
}
