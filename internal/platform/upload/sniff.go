package upload

import (
	"bytes"
	"maps"
	"mime"
	"slices"

	"sluice/internal/platform/fault"
)

// headSize is how much of the content its type is told by, in bytes.
const headSize = 512

// form is what content looks like.
type form string

const (
	text    form = "text"
	jsonDoc form = "JSON"
	parquet form = "Parquet"
	arrow   form = "Arrow"
	zip     form = "ZIP"
	gzip    form = "gzip"
	zstd    form = "zstd"
	sealed  form = "encrypted Parquet"
	old     form = "an old or an encrypted workbook"
	unknown form = "binary data of another kind"
)

// signatures are how binary forms begin.
var signatures = []struct {
	begin string
	form  form
}{
	{"PAR1", parquet}, {"PARE", sealed}, {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", old}, {"ARROW1\x00\x00", arrow}, {"\xff\xff\xff\xff", arrow}, {"PK\x03\x04", zip}, {"PK\x05\x06", zip}, {"\x1f\x8b", gzip}, {"\x28\xb5\x2f\xfd", zstd},
	{"BZh91AY&SY", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"7z\xbc\xaf\x27\x1c", "7-Zip"}, {"\x04\x22\x4d\x18", "LZ4"}, {"\xff\x06\x00\x00sNaPpY", "Snappy"},
	{"Obj\x01", "Avro"}, {"\x89HDF\r\n\x1a\n", "HDF5"}, {"\x93NUMPY", "NumPy"}, {"SQLite format 3\x00", "an SQLite database"},
	{"%PDF-", "PDF"}, {"\x89PNG\r\n\x1a\n", "PNG"}, {"\xff\xd8\xff", "JPEG"}, {"GIF89a", "GIF"}, {"\x7fELF", "an ELF program"}, {"MZ\x90\x00", "a Windows program"},
}

// advice is what to do about content that is recognised, and cannot be read.
var advice = map[form]string{
	sealed: "decrypt it before the upload, or write it without encryption",
	old:    "save it as .xlsx, without a password",
}

// lines is what text may look like. A NUL makes it no other thing: a row may have one, which
// who reads the row says of it, and half of UTF-16 are some.
var lines = []form{text, jsonDoc, unknown}

// taken has the declared types, and what content of each may look like; nil is
// anything.
var taken = map[string][]form{
	"text/csv": lines, "text/plain": lines, "text/tab-separated-values": lines,
	"application/json": {jsonDoc}, "application/x-ndjson": {jsonDoc}, "application/jsonl": {jsonDoc},
	"application/vnd.apache.parquet": {parquet}, "application/vnd.apache.arrow.file": {arrow}, "application/vnd.apache.arrow.stream": {arrow},
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": {zip}, "application/zip": {zip}, "application/gzip": {gzip}, "application/zstd": {zstd},
	"application/octet-stream": nil,
}

// Types returns the content types that are taken, in order.
func Types() []string { return slices.Sorted(maps.Keys(taken)) }

func known(media string) bool {
	_, ok := taken[media]
	return ok
}

// sniff tells the form of content by its first bytes.
func sniff(head []byte) form {
	for _, s := range signatures {
		rest, ok := bytes.CutPrefix(head, []byte(s.begin))
		word := s.form == parquet || s.form == sealed // a column may have that name: a length, or what announces one, is no text
		if ok && (!word || bytes.ContainsFunc(rest[:min(4, len(rest))], control)) {
			return s.form
		}
	}
	if len(head) > 3 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return zstd // behind a frame to be skipped, as pzstd begins
	}
	start, wide := head, false // in UTF-16 every other byte of what follows is a NUL, with a mark as without
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if rest, ok := bytes.CutPrefix(head, []byte(mark)); ok {
			start, wide = rest, len(mark) == 2
		}
	}
	if start = bytes.TrimLeft(start, " \t\r\n\x00"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return jsonDoc
	}
	if wide {
		return text
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return unknown
	}
	return text // in any encoding: who reads it judges that
}

// control says whether a character is in no text.
func control(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }

// fits returns why content that begins so is not of the declared type, nil where
// it may be. Nothing is of every type: who reads it judges that.
func fits(declared string, head []byte) error {
	media, _, _ := mime.ParseMediaType(declared)
	found, allowed := sniff(head), taken[media]
	if allowed == nil || len(head) == 0 || slices.Contains(allowed, found) {
		return nil
	}
	if what := advice[found]; what != "" {
		return fault.New(fault.Unprocessable, "the content is %s, which cannot be read: %s", found, what).WithCode("upload_type_mismatch")
	}
	return fault.New(fault.Unprocessable, "the content is %s, not %s as was declared", found, media).WithCode("upload_type_mismatch")
}
