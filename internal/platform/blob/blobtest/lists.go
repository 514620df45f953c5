package blobtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/blob"
)

func testList(t *testing.T, b blob.Bucket, f Features) {
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("an empty bucket lists %q", got)
	}
	// In byte order; between them the bytes below and above a slash.
	keys := f.legal([]string{
		"acme/a", "acme/a+b", "acme/a-b", "acme/a-b/c", "acme/a.b", "acme/a/b", "acme/a/b/c", "acme/a/c", "acme/a0", "acme/aa", "acme/b/c+d",
		"acme/b/c/d", "acme/b/c/e", "acme/b/c0", "acme/b0", "acme2/a", "b/A", "b/a",
	})
	for i := range keys {
		put(t, b, keys[(i*5+3)%len(keys)], "x")
	}
	for _, after := range append(slices.Clone(keys), "", "A", "acme", "acme/", "acme/a/", "acme/a/a", "acme/a,", "acme/b/", "acme/b/c/dd", "acme/zz", "acme3", "z") {
		for _, folder := range []string{"", "acme", "acme/a", "acme/a/b", "acme/b", "acme/b/c", "acme/aa", "acme2", "none", "acme/none"} {
			want := []string{}
			for _, key := range keys {
				if key > after && blob.Below(folder, key) {
					want = append(want, key)
				}
			}
			if diff := cmp.Diff(want, list(t, b, folder, after)); diff != "" {
				t.Errorf("folder %q after %q (-want +got):\n%s", folder, after, diff)
			}
		}
	}
	for info, err := range b.List(t.Context(), "", "") { // stops early without harm
		if err != nil || info.Key != keys[0] {
			t.Errorf("the first of the list is %+v, %v", info, err)
		}
		break
	}
}

// More than a server lists at once.
func testListPages(t *testing.T, b blob.Bucket, f Features) {
	n := 1_200
	if f.Slow {
		n = 1_005
	}
	var wg sync.WaitGroup
	want := make([]string, n)
	for i := range n {
		want[i] = fmt.Sprintf("acme/pages/%d/%05d", i/300, i)
	}
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := b.Put(t.Context(), want[i], strings.NewReader("x"), blob.PutOptions{}); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, list(t, b, "acme/pages", "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[999:], list(t, b, "acme/pages", want[998])); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", want[998], diff)
	}
}

// What is there all the time is listed once, in order, while others come and go.
func testListUnderChange(t *testing.T, b blob.Bucket, f Features) {
	lists := 20
	if f.Slow {
		lists = 8
	}
	var stable []string
	for i := range 60 {
		stable = append(stable, fmt.Sprintf("acme/ch/%d/%02d", i/20, i))
		put(t, b, stable[i], "x")
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("acme/ch/%d/%02d-%d/y", i%3, i%60, w)
				if _, err := b.Put(t.Context(), key, strings.NewReader("y"), blob.PutOptions{}); err != nil {
					t.Errorf("put: %v", err)
				}
				if err := b.Delete(t.Context(), key); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	for range lists {
		got := list(t, b, "acme/ch", "")
		if !slices.IsSorted(got) {
			t.Errorf("not in order: %q", got)
		}
		got = slices.DeleteFunc(got, func(key string) bool { return strings.HasSuffix(key, "/y") })
		if diff := cmp.Diff(stable, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	stop()
	wg.Wait()
}
