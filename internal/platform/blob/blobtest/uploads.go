package blobtest

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func begin(t testing.TB, b blob.Bucket, key string) blob.Upload {
	t.Helper()
	up, err := b.Begin(t.Context(), key, blob.UploadOptions{ContentType: "text/csv", Metadata: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if up.ID == "" || up.Key != key {
		t.Errorf("begin says %+v", up)
	}
	return up
}

func part(t testing.TB, b blob.Bucket, up blob.Upload, number int, content string) blob.Part {
	t.Helper()
	p, err := b.Part(t.Context(), up, number, strings.NewReader(content), blob.PartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Number != number || p.Size != int64(len(content)) || p.ETag == "" {
		t.Errorf("part %d of %d bytes says %+v", number, len(content), p)
	}
	return p
}

func parts(t testing.TB, b blob.Bucket, up blob.Upload) []blob.Part {
	t.Helper()
	var found []blob.Part
	for p, err := range b.Parts(t.Context(), up) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p)
	}
	return found
}

// Parts come out of order, from a process that knows no more than key and id,
// and numbers have gaps.
func testMultipart(t *testing.T, b blob.Bucket, f Features) {
	up := begin(t, b, "acme/export/result.csv")
	one, three, nine := noise(1, blob.MinPartSize), noise(3, blob.MinPartSize+1), noise(9, 1000)
	p9 := part(t, b, up, 9, nine)
	p1 := part(t, b, up, 1, one)
	wantNone(t, b, up.Key)

	resumed := blob.Upload{Key: up.Key, ID: up.ID}
	if diff := cmp.Diff([]blob.Part{p1, p9}, parts(t, b, resumed)); diff != "" {
		t.Errorf("parts so far (-want +got):\n%s", diff)
	}
	p3 := part(t, b, resumed, 3, three)
	given := []blob.Part{p9, p3, p1}
	info, err := b.Complete(t.Context(), resumed, given, blob.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(given, []blob.Part{p9, p3, p1}) {
		t.Error("complete has sorted the caller's parts")
	}
	want := one + three + nine
	wantContent(t, b, up.Key, want)
	stat, err := b.Stat(t.Context(), up.Key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stat, info, cmpopts.EquateApproxTime(time.Minute)); diff != "" {
		t.Errorf("complete and stat differ (-stat +complete):\n%s", diff)
	}
	if info.Size != int64(len(want)) || info.ContentType != "text/csv" || info.Metadata["k"] != "v" || f.UploadSHA256 && info.SHA256 != sum(want) {
		t.Errorf("complete says %+v", info)
	}
	noUploads(t, b)
	if _, err := b.Copy(t.Context(), up.Key, "acme/by-digest", sum(want)); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Verify(t.Context(), b, "acme/by-digest"); err != nil {
		t.Errorf("the copy under its digest: %v", err)
	}
}

// A part that is sent again replaces the first; a part that nobody names is left out.
func testPartsAgain(t *testing.T, b blob.Bucket, _ Features) {
	up := begin(t, b, "acme/again")
	old := part(t, b, up, 1, noise(1, blob.MinPartSize))
	same := part(t, b, up, 1, noise(1, blob.MinPartSize))
	if old != same {
		t.Errorf("the same part twice: %+v and %+v", old, same)
	}
	one := part(t, b, up, 1, noise(2, blob.MinPartSize))
	two := part(t, b, up, 2, "two")
	part(t, b, up, 3, "three")
	_, err := b.Complete(t.Context(), up, []blob.Part{old, two}, blob.Condition{})
	wantCode(t, "complete with a part that was replaced", err, fault.Invalid, blob.CodePart)
	if _, err := b.Complete(t.Context(), up, []blob.Part{one, two}, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, b, up.Key, noise(2, blob.MinPartSize)+"two")

	up = begin(t, b, "acme/empty")
	empty := part(t, b, up, 1, "")
	if info, err := b.Complete(t.Context(), up, []blob.Part{empty}, blob.Condition{}); err != nil || info.Size != 0 {
		t.Errorf("an upload of one empty part: %+v, %v", info, err)
	}
	wantContent(t, b, up.Key, "")
}

func testCompleteTwice(t *testing.T, b blob.Bucket, _ Features) {
	up := begin(t, b, "acme/twice")
	p := part(t, b, up, 1, "once")
	if _, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	put(t, b, up.Key, "newer")
	_, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{})
	wantCode(t, "the second complete", err, fault.NotFound, blob.CodeUpload)
	_, err = b.Part(t.Context(), up, 2, strings.NewReader("late"), blob.PartOptions{})
	wantCode(t, "a part after complete", err, fault.NotFound, blob.CodeUpload)
	for _, err := range b.Parts(t.Context(), up) {
		wantCode(t, "parts after complete", err, fault.NotFound, blob.CodeUpload)
	}
	if err := b.Abort(t.Context(), up); err != nil {
		t.Errorf("abort after complete: %v", err)
	}
	wantContent(t, b, up.Key, "newer")
}

func testOneCompletes(t *testing.T, b blob.Bucket, _ Features) {
	up := begin(t, b, "acme/race")
	p := part(t, b, up, 1, "x")
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			switch _, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{}); {
			case err == nil:
				wins.Add(1)
			case fault.CodeOf(err) != blob.CodeUpload:
				t.Errorf("complete: %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d of 4 completed the upload, expected one", wins.Load())
	}
	wantContent(t, b, up.Key, "x")
}

func testCompleteIf(t *testing.T, b blob.Bucket, _ Features) {
	first := put(t, b, "acme/if", "first")
	up := begin(t, b, "acme/if")
	p := part(t, b, up, 1, "second")
	_, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{IfAbsent: true})
	wantCode(t, "create what exists", err, fault.Conflict, blob.CodePrecondition)
	_, err = b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{IfMatch: strings.Repeat("0", 32)})
	wantCode(t, "replace another version", err, fault.Conflict, blob.CodePrecondition)
	wantContent(t, b, up.Key, "first")
	if _, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{IfMatch: first.ETag}); err != nil {
		t.Errorf("replace the version that is there: %v", err)
	}
	wantContent(t, b, up.Key, "second")

	up = begin(t, b, "acme/if-new")
	p = part(t, b, up, 1, "new")
	_, err = b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{IfMatch: first.ETag})
	wantCode(t, "replace what is not there", err, fault.Conflict, blob.CodePrecondition)
	if _, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{IfAbsent: true}); err != nil {
		t.Errorf("create what is not there: %v", err)
	}
	wantContent(t, b, up.Key, "new")
}

func testCompleteBadParts(t *testing.T, b blob.Bucket, _ Features) {
	up := begin(t, b, "acme/bad")
	small, last := part(t, b, up, 1, "too small"), part(t, b, up, 2, "last")
	for name, list := range map[string][]blob.Part{
		"no parts":         nil,
		"a small one":      {small, last},
		"one twice":        {last, last},
		"one not sent":     {{Number: 7, Size: 4, ETag: last.ETag}},
		"another ETag":     {{Number: 2, Size: 4, ETag: small.ETag}},
		"a size not there": {{Number: 1, Size: blob.MinPartSize, ETag: small.ETag}, last},
	} {
		_, err := b.Complete(t.Context(), up, list, blob.Condition{})
		wantCode(t, name, err, fault.Invalid, blob.CodePart)
	}
	wantNone(t, b, up.Key)
	for _, number := range []int{0, -1, blob.MaxPart + 1} {
		_, err := b.Part(t.Context(), up, number, strings.NewReader("x"), blob.PartOptions{})
		wantCode(t, "a number out of range", err, fault.Invalid, "")
	}
	if _, err := b.Complete(t.Context(), up, []blob.Part{last}, blob.Condition{}); err != nil {
		t.Errorf("complete after failures: %v", err)
	}
}

func testPartChecks(t *testing.T, b blob.Bucket, _ Features) {
	up := begin(t, b, "acme/checks")
	for _, size := range []int{1000, 17 << 20} {
		content := noise(11, size)
		good := blob.PartOptions{Size: int64(size), SHA256: sum(content)}
		p, err := b.Part(t.Context(), up, 1, strings.NewReader(content), good)
		if err != nil || p.Size != int64(size) {
			t.Errorf("a part of %d bytes: %+v, %v", size, p, err)
		}
		_, err = b.Part(t.Context(), up, 2, strings.NewReader(content), blob.PartOptions{Size: int64(size), SHA256: sum("else")})
		wantCode(t, "a part with another digest", err, fault.Invalid, blob.CodeChecksum)
		_, err = b.Part(t.Context(), up, 3, strings.NewReader(content), blob.PartOptions{Size: int64(size) + 1})
		wantCode(t, "a short part", err, fault.Invalid, blob.CodeSize)
		_, err = b.Part(t.Context(), up, 4, strings.NewReader(content), blob.PartOptions{Size: int64(size) - 1})
		wantCode(t, "a long part", err, fault.Invalid, blob.CodeSize)
		if got := parts(t, b, up); len(got) != 1 || got[0] != p {
			t.Errorf("parts are %+v, expected the good one alone", got)
		}
	}
	_, err := b.Part(t.Context(), blob.Upload{Key: "acme/another", ID: up.ID}, 1, strings.NewReader("x"), blob.PartOptions{})
	wantCode(t, "a part under another's key", err, fault.NotFound, blob.CodeUpload)
	_, err = b.Complete(t.Context(), blob.Upload{Key: "acme/another", ID: up.ID}, parts(t, b, up), blob.Condition{})
	wantCode(t, "complete under another's key", err, fault.NotFound, blob.CodeUpload)
	if err := b.Abort(t.Context(), blob.Upload{Key: "acme/another", ID: up.ID}); err != nil {
		t.Error(err)
	}
	if len(parts(t, b, up)) != 1 {
		t.Error("an abort under another key has aborted the upload")
	}
}

func testAbort(t *testing.T, b blob.Bucket, _ Features) {
	put(t, b, "acme/aborted", "old")
	up := begin(t, b, "acme/aborted")
	p := part(t, b, up, 1, "new")
	for range 2 {
		if err := b.Abort(t.Context(), up); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	_, err := b.Complete(t.Context(), up, []blob.Part{p}, blob.Condition{})
	wantCode(t, "complete after abort", err, fault.NotFound, blob.CodeUpload)
	_, err = b.Part(t.Context(), up, 2, strings.NewReader("x"), blob.PartOptions{})
	wantCode(t, "a part after abort", err, fault.NotFound, blob.CodeUpload)
	wantContent(t, b, "acme/aborted", "old")
	noUploads(t, b)
}

func testUploads(t *testing.T, b blob.Bucket, _ Features) {
	a, a2, other := begin(t, b, "acme/u/a"), begin(t, b, "acme/u/a"), begin(t, b, "acme2/a")
	ended := begin(t, b, "acme/u/ended")
	if err := b.Abort(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if a.ID == a2.ID {
		t.Error("two uploads to one key share an id")
	}
	for folder, want := range map[string][]string{"": {a.ID, a2.ID, other.ID}, "acme": {a.ID, a2.ID}, "acme/u": {a.ID, a2.ID}, "acme2": {other.ID}, "acme/u/a": nil} {
		var got []string
		for up, err := range b.Uploads(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(up.Started); d < -time.Minute || d > time.Minute {
				t.Errorf("upload %s started at %s, expected about now", up.Key, up.Started)
			}
			got = append(got, up.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("folder %q (-want +got):\n%s", folder, diff)
		}
	}
	if n, err := blob.Sweep(t.Context(), b, "", time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("a sweep of what is old took %d, %v", n, err)
	}
	if n, err := blob.Sweep(t.Context(), b, "acme", time.Now().Add(time.Hour)); n != 2 || err != nil {
		t.Errorf("a sweep of one folder took %d, %v; expected 2", n, err)
	}
	if n, err := blob.Sweep(t.Context(), b, "", time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("a sweep of everything took %d, %v; expected 1", n, err)
	}
	noUploads(t, b)
}
