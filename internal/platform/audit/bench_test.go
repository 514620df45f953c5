package audit

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// One append after the other; each entry's own share is in entries/s.
func BenchmarkAppend(b *testing.B) {
	for name, storage := range map[string]func(b *testing.B) Storage{
		"memory": func(*testing.B) Storage { return new(Memory) },
		"folder": func(b *testing.B) Storage { return openFolder(b, b.TempDir()) },
	} {
		for _, batch := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, batch), func(b *testing.B) {
				l := open(b, storage(b), newTestKey(b), Config{})
				list := entriesFrom(0, batch)
				n := 0
				b.ReportAllocs()
				for b.Loop() {
					for i := range list {
						list[i].ID = fmt.Sprintf("evt_%08d", n)
						n++
					}
					mustAppend(b, l, list)
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

// Sixty-four callers with one entry each at a time.
func BenchmarkGroupCommit(b *testing.B) {
	l := open(b, openFolder(b, b.TempDir()), newTestKey(b), Config{})
	var all sync.WaitGroup
	next := make(chan int)
	for range 64 {
		all.Go(func() {
			for i := range next {
				if _, err := l.Append(b.Context(), []Entry{entry(i)}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		next <- n
		n++
	}
	close(next)
	all.Wait()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkEncode(b *testing.B) {
	e := entry(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	leaf, err := entry(1).Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(leaf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProve(b *testing.B) {
	l := built(b, openFolder(b, b.TempDir()), newTestKey(b), 65_537)
	n := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Prove(b.Context(), n*7919%65_537); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// A folder of a million entries: the time and the memory of one verification.
func BenchmarkVerifyMillion(b *testing.B) { benchmarkVerify(b, 1_000_000) }

func benchmarkVerify(b *testing.B, size int) {
	folder := b.TempDir()
	k := newTestKey(b)
	l := open(b, openFolder(b, folder), k, Config{Recent: 1, MaxBatch: 1 << 16})
	for done := 0; done < size; done += 50_000 {
		mustAppend(b, l, entriesFrom(done, min(50_000, size-done)))
	}
	trust := Trust{Keys: []PublicKey{k.Public()}, Saved: [][]byte{l.Checkpoint()}}
	for b.Loop() {
		peak := watchHeap()
		mustVerify(b, os.DirFS(folder), trust, int64(size))
		b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
	}
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// watchHeap returns a function that ends the watch and returns the most bytes
// that were in use.
func watchHeap() func() uint64 {
	runtime.GC()
	stop, result := make(chan struct{}), make(chan uint64)
	go func() {
		var peak uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-stop:
				result <- peak
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-result }
}
