package modelrepo

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, dir := open(t, map[string]string{"a/1/model.onnx": "one", "b/1/model.onnx": "one"})
		reports := make(chan string, 16)
		report := func(entries []Entry, err error) {
			text := ""
			for _, e := range entries {
				text += e.Name + strings.Repeat("'", len(e.Versions)) + " "
			}
			if err != nil {
				text = fault.CodeOf(err)
			}
			reports <- strings.TrimSpace(text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Poll(ctx, time.Second, report)
		}()
		// expect lets n intervals pass and checks what was reported meanwhile.
		expect := func(n int, want ...string) {
			t.Helper()
			time.Sleep(time.Duration(n)*time.Second + time.Millisecond)
			synctest.Wait()
			var got []string
			for len(reports) > 0 {
				got = append(got, <-reports)
			}
			if !slices.Equal(got, want) {
				t.Errorf("reports %q, want %q", got, want)
			}
		}
		expect(1)
		expect(1, "a' b'")
		expect(3)
		// An upload that grows between looks is not reported until it is still.
		for _, content := range []string{"t", "tw", "two"} {
			write(t, dir, map[string]string{"a/2/model.onnx": content})
			expect(1)
		}
		expect(1, "a'' b'")
		expect(3)
		// A model that goes and comes back within one look was never away.
		if err := os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, ".b")); err != nil {
			t.Fatal(err)
		}
		expect(1)
		if err := os.Rename(filepath.Join(dir, ".b"), filepath.Join(dir, "b")); err != nil {
			t.Fatal(err)
		}
		expect(3)
		if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
			t.Fatal(err)
		}
		expect(1)
		expect(2, "a''")
		// A repository that cannot be read is an error each time, not an empty one.
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		expect(2, "unavailable", "unavailable")
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		expect(3)
		cancel()
		<-done
	})
}

// Under any sequence of looks: what is reported was seen twice in a row, and
// whatever stays put for two looks is in the listing.
func TestSettleProperties(t *testing.T) {
	look := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"1", "2", "3"}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		var w watch
		var before, listed map[string]string
		stable := map[string]bool{}
		for _, now := range rapid.SliceOf(look).Draw(t, "looks") {
			var seen []Entry
			for _, name := range slices.Sorted(maps.Keys(now)) {
				seen = append(seen, Entry{Name: name, Fingerprint: now[name]})
				if before[name] == now[name] {
					stable[name+now[name]] = true
				}
			}
			listing, changed := w.settle(seen)
			got := map[string]string{}
			for _, e := range listing {
				got[e.Name] = e.Fingerprint
				if !stable[e.Name+e.Fingerprint] {
					t.Fatalf("%v was never seen twice in a row", e)
				}
			}
			if changed == maps.Equal(got, listed) {
				t.Fatalf("changed %t from %v to %v", changed, listed, got)
			}
			for _, name := range []string{"a", "b", "c"} {
				mark, here := now[name]
				last, wasHere := before[name]
				if before != nil && here == wasHere && mark == last && got[name] != mark {
					t.Fatalf("%q stayed %q, but is listed as %q", name, mark, got[name])
				}
			}
			before, listed = now, got
		}
	})
}
