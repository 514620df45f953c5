package upload

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// What came with another digest takes no room that nobody counts.
func TestPiecesInVain(t *testing.T) {
	b := newBed(t, Config{Quota: 100 << 20})
	data := content(2 * pieceSize)
	id := b.create(t, Create{Length: 3 * pieceSize})
	vain := func(offset int64) error {
		_, err := b.Append(b.ctx, id, Append{Offset: offset, Length: int64(len(data)), SHA256: sumOf(nil), Body: bytes.NewReader(data)})
		return err
	}
	if err := vain(0); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	for up, err := range b.bucket.Uploads(b.ctx, "") {
		t.Errorf("%s is left of the first, %v", up.Key, err)
	}
	if _, err := b.Append(b.ctx, id, Append{Length: pieceSize, Body: bytes.NewReader(data[:pieceSize])}); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n <= 2; n++ {
		err := vain(pieceSize)
		if u, _ := b.Find(b.ctx, id); !fault.Is(err, fault.Invalid) || u.Wasted != n*2*pieceSize || u.Reserved(0) != u.Length+u.Wasted {
			t.Errorf("%+v, %v", u, err)
		}
	}
	if err := vain(pieceSize); fault.CodeOf(err) != "upload_wasteful" {
		t.Errorf("without end: %v", err)
	}
	if _, err := b.Create(b.ctx, Create{Length: 50 << 20, ContentType: "text/csv"}); fault.CodeOf(err) != "upload_quota" {
		t.Errorf("beyond the quota: %v", err)
	}
}

// Uploads without content, and those that failed, are as many as may be.
func TestEveryUploadCounts(t *testing.T) {
	b := newBed(t, Config{MaxUploads: 2})
	empty := b.create(t, Create{Length: 0})
	if u, err := b.Append(b.ctx, empty, Append{Last: true, Body: strings.NewReader("")}); err != nil || u.State != Complete {
		t.Fatalf("%+v, %v", u, err)
	}
	failed := b.create(t, Create{Length: -1, SHA256: sumOf(nil)})
	if u, err := b.Append(b.ctx, failed, Append{Length: 1, Last: true, Body: strings.NewReader("x")}); u.State != Failed {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := b.Create(b.ctx, Create{ContentType: "text/csv"}); fault.CodeOf(err) != "upload_quota" {
		t.Errorf("a third: %v", err)
	}
	if err := b.Delete(b.ctx, failed); err != nil {
		t.Fatal(err)
	}
	b.create(t, Create{Length: 0})
}

// Appends hold memory, and are few of a tenant; those beyond are refused, and
// leave nothing behind.
func TestAppendsAreBounded(t *testing.T) {
	memory := budget.New(3*pieceSize, "http.max_held")
	b := newBed(t, Config{MaxAppends: 1, Memory: memory})
	id, other := b.create(t, Create{Length: -1}), b.create(t, Create{Length: -1})
	rival, err := b.Create(as("rival"), Create{Length: -1, ContentType: "text/csv"})
	if err != nil {
		t.Fatal(err)
	}
	beside := readerFunc(func([]byte) (int, error) {
		if _, err := b.Append(b.ctx, other, Append{Body: strings.NewReader("")}); fault.CodeOf(err) != "upload_appends" || !fault.Is(err, fault.Exhausted) {
			t.Errorf("a second of the tenant: %v", err)
		}
		if _, err := b.Append(as("rival"), rival.ID, Append{Body: strings.NewReader("")}); fault.CodeOf(err) != budget.Code {
			t.Errorf("beyond the memory: %v", err)
		}
		return 0, io.EOF
	})
	if _, err := b.Append(b.ctx, id, Append{Length: -1, Body: beside}); err != nil || memory.Held() != 0 {
		t.Errorf("%v, %d bytes are held", err, memory.Held())
	}
	if _, err := b.Append(as("rival"), rival.ID, Append{Body: strings.NewReader("")}); err != nil || memory.Held() != 0 || len(b.writers.count) != 0 {
		t.Errorf("afterwards: %v, %d bytes are held, %v", err, memory.Held(), b.writers.count)
	}
}

// Files of pzstd begin with a frame that is skipped.
func TestSniffSkippedFrames(t *testing.T) {
	if f := sniff([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00")); f != zstd {
		t.Error(f)
	}
}

// What cannot be read is told as what it is; and columns may be named like that.
func TestSniffMagics(t *testing.T) {
	const book, columns = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/vnd.apache.parquet"
	for _, tt := range []struct{ declared, head, says string }{
		{columns, "PAR1\x15\x04", ""}, {columns, "PARE\x2c\x00\x00\x00", "encrypted Parquet, which cannot be read: decrypt it"},
		{book, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "without a password"}, {"text/csv", "PAR1\x15\x04", "not text/csv"},
		{"text/csv", "PAR1,x\r\n1,2\r\n", ""}, {"text/csv", "PARE\tx\n", ""}, {columns, "PAR1,x\n", "the content is text"},
		{"application/octet-stream", "PARE\x2c\x00\x00\x00", ""},
		// A NUL is a matter of its row, whose error has its line; UTF-16 may come without a mark.
		{"text/csv", "a,b\n1,\x00\n", ""}, {"text/csv", "PAR1,b\nx,1\x00\n", ""}, {"text/plain", "\x00", ""}, {"text/csv", "a\x00,\x00b\x00\n\x00", ""},
		{"application/jsonl", "{\"a\":\"\x00\"}\n", ""}, {"application/jsonl", "{\"a\":\"\xff\"}\n", ""}, {"application/jsonl", "\xff\xfe{\x00", ""}, {"application/jsonl", "\x00\n\x00{", ""}, {"text/csv", "\xfe\xff\x00a", ""},
		{"application/json", "\xff\xfea\x00", "text, not"}, {"application/json", "a\x00", "binary data of another kind"},
		{columns, "a\x00\x01", "binary data of another kind"},
		{"text/csv", "\x89PNG\r\n\x1a\n\x00", "is PNG, not text/csv"}, {"text/csv", "\x7fELF\x02", "an ELF program"}, {"text/csv", "%PDF-1.7\n", "is PDF"},
		{"text/csv", "\x1f\x8b\x08", "gzip"}, {"text/csv", "PK\x03\x04", "ZIP"}, {"text/csv", "ARROW1\x00\x00", "Arrow"}, {"text/csv", "\xff\xff\xff\xff\x10", "Arrow"},
	} {
		err := fits(tt.declared, []byte(tt.head))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q as %s: %v", tt.head, tt.declared, err)
		}
	}
}
