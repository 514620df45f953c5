package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"

	"sluice/internal/platform/fault"
)

// magics are what files begin with that are not text. Those that a column's name may begin
// with too, PAR1, PARE and ARROW1, are followed by what is in no text.
var magics = []struct {
	begin  string
	word   bool // text may begin so
	format Format
}{
	{"PAR1", true, Parquet}, {arrowMagic, true, Arrow}, {"\xff\xff\xff\xff", false, Arrow}, {"PK\x03\x04", false, XLSX}, {"PARE", true, sealed}, {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", false, old},
}

// What is recognised, and cannot be read.
const (
	sealed Format = "encrypted Parquet"
	old    Format = "an old or an encrypted workbook"
)

// codeEncrypted is the code of a file, or of a column, whose key nobody has here.
const codeEncrypted = "file_encrypted"

// unread says why a format that was recognised cannot be read, and what to do; nil: it can.
func (f Format) unread() error {
	switch f {
	case sealed:
		return fault.New(fault.Unprocessable, "the Parquet file is encrypted, the footer that says what is in it included: decrypt it before the upload, or write it without encryption").WithCode(codeEncrypted)
	case old:
		return fault.New(fault.Unprocessable, "the file is %s, which cannot be read: save it as .xlsx, without a password", f).WithCode("format_mismatch")
	}
	return nil
}

// recognize finds the format out by what the file begins with. One that is said and is
// another is an error: the rows could not be read.
func (f *File) recognize(ctx context.Context, src Source, o Options) error {
	body, err := src.Open(ctx, 0)
	if err != nil {
		return err
	}
	head := make([]byte, magicSize)
	n, err := io.ReadFull(body, head)
	_ = body.Close()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	found := formatOf(head[:n])
	if f.Format != "" && !f.Format.Text() && compression(head[:n]) != "" {
		return f.Format.packed()
	}
	if err := found.unread(); err != nil {
		return err
	}
	switch {
	case f.Format == "" && found != "":
		f.Format = found
	case f.Format == "":
		return f.textual(ctx, src, o)
	case found != "" && found != f.Format:
		return fault.New(fault.Unprocessable, "the file is not %s, but %s: say so in format, or leave it out", f.Format, found).WithCode("format_mismatch")
	}
	return nil
}

// magicSize is how much of the content tells what is not text.
const magicSize = 8

// formatOf tells a format that is not text by how content begins; empty: it may be text.
func formatOf(head []byte) (found Format) {
	head = head[:min(len(head), magicSize)]
	for _, m := range magics {
		if rest, is := bytes.CutPrefix(head, []byte(m.begin)); is && (!m.word || bytes.ContainsFunc(rest, control)) {
			found = m.format
		}
	}
	return found
}

// packed says that a file which is not text is compressed as text may be.
func (f Format) packed() error {
	return fault.New(fault.Unprocessable, "the file is compressed as a whole, and within it is %s, which is read at any place: decompress it before the upload; only CSV and JSON Lines may be compressed", f).WithCode("format_mismatch")
}

// control says whether a character is in no text.
func control(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }

// textual tells JSON Lines from CSV: they begin with an object. So does an array of them, of
// which Inspect says what to do.
func (f *File) textual(ctx context.Context, src Source, o Options) error {
	_, head, err := sniff(ctx, src, f.Coding.Encoding, o.Inflation)
	if err != nil {
		return err
	}
	f.Format = CSV
	if bytes.HasPrefix(bytes.TrimSpace(head), []byte("{")) || jsonArray(head) {
		f.Format = JSONL
	}
	return nil
}

// jsonArray says whether content begins as a JSON array of objects.
func jsonArray(head []byte) bool {
	inner, is := bytes.CutPrefix(bytes.TrimSpace(head), []byte("["))
	return is && bytes.HasPrefix(bytes.TrimSpace(inner), []byte("{"))
}
