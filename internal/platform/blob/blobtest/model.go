package blobtest

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// testModel compares any sequence of operations with a map.
func testModel(t *testing.T, b blob.Bucket, f Features) {
	run, names := 0, f.legal([]string{"a", "a/b", "a/b/c", "a-b", "a.b", "b/c", "b/c0/d", "c"})
	rapid.Check(t, func(rt *rapid.T) {
		run++
		// A folder of its own for every sequence: the bucket keeps those before.
		m := &model{b: b, names: names, folder: "run/" + string(rune('a'+run%26)) + strings.Repeat("x", run/26), objects: map[string]string{}, etags: map[string]string{}}
		rt.Repeat(map[string]func(*rapid.T){
			"put": m.put, "get": m.get, "delete": m.remove, "copy": m.copy, "list": m.list,
		})
	})
}

type model struct {
	b       blob.Bucket
	names   []string
	folder  string
	objects map[string]string // contents by key
	etags   map[string]string // by content
}

func (m *model) key(rt *rapid.T) string {
	return m.folder + "/" + rapid.SampledFrom(m.names).Draw(rt, "key")
}

func (m *model) put(rt *rapid.T) {
	key, content := m.key(rt), rapid.StringN(0, 20, 40).Draw(rt, "content")
	old, exists := m.objects[key]
	var opts blob.PutOptions
	holds := true
	switch rapid.SampledFrom([]string{"", "absent", "match", "stale"}).Draw(rt, "condition") {
	case "absent":
		opts.IfAbsent, holds = true, !exists
	case "match":
		opts.IfMatch, holds = cmp.Or(m.etags[old], "none"), exists
	case "stale":
		opts.IfMatch, holds = "0123456789abcdef", false
	}
	info, err := m.b.Put(rt.Context(), key, strings.NewReader(content), opts)
	if !holds {
		if fault.CodeOf(err) != blob.CodePrecondition {
			rt.Fatalf("put %s under %+v: %v, expected the condition to fail", key, opts.Condition, err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("put %s under %+v: %v", key, opts.Condition, err)
	}
	if known := m.etags[content]; known != "" && known != info.ETag {
		rt.Fatalf("one content has two ETags, %s and %s", known, info.ETag)
	}
	m.objects[key], m.etags[content] = content, info.ETag
}

func (m *model) get(rt *rapid.T) {
	key := m.key(rt)
	r := blob.Range{Offset: rapid.Int64Range(-50, 50).Draw(rt, "offset"), Length: rapid.Int64Range(0, 50).Draw(rt, "length")}
	content, exists := m.objects[key]
	obj, err := m.b.Get(rt.Context(), key, blob.GetOptions{Range: r})
	if !exists {
		if !fault.Is(err, fault.NotFound) {
			rt.Fatalf("get %s, which is not there: %v", key, err)
		}
		return
	}
	want, bad := r.Resolve(int64(len(content)))
	if bad != nil {
		if fault.CodeOf(err) != blob.CodeRange {
			rt.Fatalf("get %+v of %d bytes: %v", r, len(content), err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("get %s: %v", key, err)
	}
	defer obj.Body.Close()
	got, err := io.ReadAll(obj.Body)
	if err != nil || string(got) != content[want.Offset:][:want.Length] || obj.Info.SHA256 != sum(content) || obj.Info.ETag != m.etags[content] {
		rt.Fatalf("get %+v of %q: %q, %+v, %v", r, content, got, obj.Info, err)
	}
}

func (m *model) remove(rt *rapid.T) {
	key := m.key(rt)
	if err := m.b.Delete(rt.Context(), key); err != nil {
		rt.Fatalf("delete %s: %v", key, err)
	}
	delete(m.objects, key)
}

func (m *model) copy(rt *rapid.T) {
	from, to := m.key(rt), m.key(rt)
	content, exists := m.objects[from]
	_, err := m.b.Copy(rt.Context(), from, to, "")
	switch {
	case !exists && !fault.Is(err, fault.NotFound), exists && err != nil:
		rt.Fatalf("copy %s (there: %t) to %s: %v", from, exists, to, err)
	case exists:
		m.objects[to] = content
	}
}

func (m *model) list(rt *rapid.T) {
	folder := m.folder + rapid.SampledFrom([]string{"", "/a", "/a/b", "/b", "/c"}).Draw(rt, "folder")
	after := rapid.SampledFrom([]string{"", m.folder + "/a", m.folder + "/a/b", m.folder + "/a0", m.folder + "/b", "z"}).Draw(rt, "after")
	var got []string
	for info, err := range m.b.List(rt.Context(), folder, after) {
		if err != nil {
			rt.Fatalf("list: %v", err)
		}
		if content := m.objects[info.Key]; info.Size != int64(len(content)) || info.ETag != m.etags[content] {
			rt.Fatalf("listed %+v, expected %d bytes with ETag %s", info, len(content), m.etags[content])
		}
		got = append(got, info.Key)
	}
	var want []string
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if blob.Below(folder, key) && key > after {
			want = append(want, key)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Fatalf("folder %q after %q (-want +got):\n%s", folder, after, diff)
	}
}
