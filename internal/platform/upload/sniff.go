package upload

import (
	"bytes"
	"maps"
	"mime"
	"slices"
	"unicode/utf8"

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
	other   form = "binary data of another kind"
)

// signatures are how binary forms begin.
var signatures = []struct {
	begin string
	form  form
}{
	{"PAR1", parquet}, {"PARE", sealed}, {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", old}, {"ARROW1\x00\x00", arrow}, {"\xff\xff\xff\xff", arrow}, {"PK\x03\x04", zip}, {"PK\x05\x06", zip}, {"\x1f\x8b", gzip}, {"\x28\xb5\x2f\xfd", zstd},
}

// advice is what to do about content that is recognised, and cannot be read.
var advice = map[form]string{
	sealed: "decrypt it before the upload, or write it without encryption",
	old:    "save it as .xlsx, without a password",
}

// taken has the declared types, and what content of each may look like; nil is
// anything.
var taken = map[string][]form{
	"text/csv": {text, jsonDoc}, "text/plain": {text, jsonDoc}, "text/tab-separated-values": {text, jsonDoc},
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
		word := s.form == parquet || s.form == sealed // a column may have that name
		if bytes.HasPrefix(head, []byte(s.begin)) && (!word || bytes.ContainsFunc(head, control)) {
			return s.form
		}
	}
	if len(head) > 3 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return zstd // behind a frame to be skipped, as pzstd begins
	}
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return text // UTF-16, as spreadsheets write it
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return other
	}
	start := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(start) > 0 && (start[0] == '{' || start[0] == '[') && utf8.Valid(whole(head)) {
		return jsonDoc
	}
	return text // in any encoding: who reads it judges that
}

// control says whether a character is in no text.
func control(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }

// whole returns the head without a character that is cut off at its end.
func whole(head []byte) []byte {
	for cut := 0; cut < utf8.UTFMax && cut < len(head); cut++ {
		if r, _ := utf8.DecodeLastRune(head[:len(head)-cut]); r != utf8.RuneError {
			return head[:len(head)-cut]
		}
	}
	return head
}

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
