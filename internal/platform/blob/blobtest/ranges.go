package blobtest

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func testRanges(t *testing.T, b blob.Bucket, _ Features) {
	content := noise(3, 1000)
	put(t, b, "acme/r", content)
	put(t, b, "acme/empty", "")
	for _, c := range []struct {
		key      string
		r        blob.Range
		from, to int
		fails    bool
	}{
		{"acme/r", blob.Range{}, 0, 1000, false},
		{"acme/r", blob.Range{Length: 1}, 0, 1, false},
		{"acme/r", blob.Range{Length: 1000}, 0, 1000, false},
		{"acme/r", blob.Range{Length: 5000}, 0, 1000, false},
		{"acme/r", blob.Range{Offset: 1}, 1, 1000, false},
		{"acme/r", blob.Range{Offset: 10, Length: 20}, 10, 30, false},
		{"acme/r", blob.Range{Offset: 999}, 999, 1000, false},
		{"acme/r", blob.Range{Offset: 990, Length: 50}, 990, 1000, false},
		{"acme/r", blob.Range{Offset: -1}, 999, 1000, false},
		{"acme/r", blob.Range{Offset: -100, Length: 10}, 900, 910, false},
		{"acme/r", blob.Range{Offset: -1000}, 0, 1000, false},
		{"acme/r", blob.Range{Offset: -5000}, 0, 1000, false},
		{"acme/r", blob.Range{Offset: 1000}, 0, 0, true},
		{"acme/r", blob.Range{Offset: 1000, Length: 1}, 0, 0, true},
		{"acme/r", blob.Range{Offset: 5000, Length: 1}, 0, 0, true},
		{"acme/r", blob.Range{Offset: 5, Length: -1}, 0, 0, true},
		{"acme/empty", blob.Range{}, 0, 0, false},
		{"acme/empty", blob.Range{Length: 10}, 0, 0, false},
		{"acme/empty", blob.Range{Offset: -10}, 0, 0, false},
		{"acme/empty", blob.Range{Offset: 1}, 0, 0, true},
	} {
		obj, err := b.Get(t.Context(), c.key, blob.GetOptions{Range: c.r})
		if c.fails {
			wantCode(t, "a range outside", err, fault.Invalid, blob.CodeRange)
			continue
		}
		if err != nil {
			t.Errorf("%s %+v: %v", c.key, c.r, err)
			continue
		}
		got, err := io.ReadAll(obj.Body)
		obj.Body.Close()
		if err != nil || string(got) != content[c.from:c.to] {
			t.Errorf("%s %+v: %d bytes, error %v; expected those from %d to %d", c.key, c.r, len(got), err, c.from, c.to)
		}
		if want := (blob.Range{Offset: int64(c.from), Length: int64(c.to - c.from)}); obj.Range != want {
			t.Errorf("%s %+v: says it is %+v, expected %+v", c.key, c.r, obj.Range, want)
		}
		if whole := int64(1000); c.key == "acme/r" && obj.Info.Size != whole {
			t.Errorf("%+v: says the object has %d bytes, expected %d", c.r, obj.Info.Size, whole)
		}
	}
}

func testFile(t *testing.T, b blob.Bucket, f Features) {
	content := noise(4, 3000)
	put(t, b, "acme/file", content)
	file, err := blob.OpenFile(t.Context(), b, "acme/file")
	if err != nil {
		t.Fatal(err)
	}
	if f.Slow {
		tail := make([]byte, 100)
		if n, err := file.ReadAt(tail, 2950); n != 50 || err != io.EOF || string(tail[:n]) != content[2950:] { //nolint:errorlint // io.ReaderAt says io.EOF
			t.Errorf("read at the end: %d bytes, %v", n, err)
		}
	} else if err := iotest.TestReader(io.NewSectionReader(file, 0, file.Size()), []byte(content)); err != nil {
		t.Error(err)
	}

	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("inside.txt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, b, "acme/zip", archive.String())
	file, err = blob.OpenFile(t.Context(), b, "acme/zip")
	if err != nil {
		t.Fatal(err)
	}
	zr, err := zip.NewReader(file, file.Size())
	if err != nil {
		t.Fatal(err)
	}
	inside, err := zr.Open("inside.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(inside); err != nil || string(got) != content {
		t.Errorf("the file in the archive: %d bytes, %v", len(got), err)
	}

	put(t, b, "acme/zip", "replaced")
	begin := make([]byte, 4)
	switch _, err = file.ReadAt(begin, 0); {
	case err != nil:
		wantCode(t, "read of a version that was replaced", err, fault.Conflict, blob.CodePrecondition)
	case string(begin) != archive.String()[:4]: // it is still open
		t.Errorf("the version that was replaced reads %q", begin)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	_, err = file.ReadAt(begin, 0)
	wantCode(t, "read of a version that was replaced, after it was closed", err, fault.Conflict, blob.CodePrecondition)

	ctx, end := context.WithCancel(t.Context())
	file, err = blob.OpenFile(ctx, b, "acme/file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.ReadAt(begin, 0); err != nil {
		t.Error(err)
	}
	end()
	if _, err := file.ReadAt(begin, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a read after the end of its context: %v", err)
	}
}
