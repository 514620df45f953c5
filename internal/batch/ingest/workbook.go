package ingest

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"

	"sluice/internal/platform/fault"
)

// What a workbook may have in memory.
const (
	maxBookParts   = 10_000  // files in its archive
	maxBookIndex   = 2 << 20 // bytes of their list
	maxBookSheets  = 1000
	maxBookLinks   = 10_000   // between its parts
	maxBookPart    = 16 << 20 // bytes of what is neither a sheet nor its texts
	maxSharedText  = 64 << 20 // bytes of the texts that cells share
	maxSharedCount = 8 << 20

	bookStep = 256 << 10 // bytes of the archive that are read at a time
)

// book is an Excel workbook (ECMA-376 Office Open XML), whose sheets are read as
// streams. It holds the texts that cells share and which of their styles are dates.
type book struct {
	zip    *zip.Reader
	o      Options
	sheets []bookSheet
	dates  []dateStyle // by style
	since  int64       // the day that dates count from: of 1904, or of 1900
	texts  texts       // that cells share
}

// bookSheet is a sheet by its name, and where it is.
type bookSheet struct {
	name   string
	part   string
	hidden bool
}

// openBook opens a workbook without reading a sheet.
func openBook(ctx context.Context, src Source, o Options) (*book, error) {
	random, ok := src.(Random)
	if !ok {
		return nil, fault.New(fault.Internal, "the source of a workbook cannot be read at any place")
	}
	raw, size, err := random.File(ctx)
	if err != nil {
		return nil, err
	}
	list := &listed{ReaderAt: raw, left: maxBookIndex}
	list.followed, _ = raw.(Followed)
	b := &book{o: o}
	if b.zip, err = zip.NewReader(list, size); err != nil {
		return nil, err
	}
	if len(b.zip.File) > maxBookParts {
		return nil, errParts
	}
	list.whole, list.ReaderAt = true, &readAhead{r: raw, size: size, step: bookStep}
	b.zip.RegisterDecompressor(zip.Deflate, flate.NewReader)
	main := "xl/workbook.xml"
	links, err := b.links("_rels/.rels", "")
	if errors.Is(err, errNoPart) {
		return nil, fault.New(fault.Unprocessable, "the file is a ZIP archive, and no workbook: upload what is in it; CSV and JSON Lines may be compressed with gzip or zstd").WithCode("format_mismatch")
	}
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if strings.HasSuffix(l.kind, "/officeDocument") {
			main = l.part
		}
	}
	return b, b.contents(main)
}

// listed is an archive of which the list of files, that is read whole when it is opened,
// takes no more than is left. Nothing that it says of its own size is relied on.
type listed struct {
	io.ReaderAt
	left     int64
	whole    bool     // the list has been read
	followed Followed // nil for nobody
}

// errParts is what is said of archives with too many files.
var errParts error = fault.New(fault.Unprocessable, "the workbook's archive has more than %d files, or a list of them of more than %d bytes", maxBookParts, maxBookIndex).WithCode("file_inflates")

// ReadAt implements io.ReaderAt.
func (l *listed) ReadAt(p []byte, at int64) (int, error) {
	if !l.whole {
		if l.left -= int64(len(p)); l.left < 0 {
			return 0, errParts
		}
	}
	n, err := l.ReaderAt.ReadAt(p, at)
	if l.followed != nil {
		l.followed.Reached(at + int64(n))
	}
	return n, err
}

// open opens a file of the archive, which may inflate as others do.
func (b *book) open(name string) (io.ReadCloser, error) {
	for _, f := range b.zip.File {
		if strings.EqualFold(strings.TrimPrefix(f.Name, "/"), name) {
			if f.Flags&1 != 0 { // of ZIP itself, which no program writes into a workbook
				return nil, fault.New(fault.Unprocessable, "the archive of the workbook has a password: save the workbook without one").WithCode(codeEncrypted)
			}
			body, err := f.Open()
			if err != nil {
				return nil, err
			}
			packed := &counting{n: int64(min(f.CompressedSize64, 1<<62))}
			return stream{&inflating{r: body, raw: packed, limit: b.o.Inflation.withDefaults()}, body.Close}, nil
		}
	}
	return nil, errNoPart
}

var errNoPart = errors.New("the workbook lacks one of its files")

// each calls f for the tokens of a small file of the archive, of which parents are the
// names of the elements around.
func (b *book) each(name string, f func(xml.Token, []string) error) error {
	body, err := b.open(name)
	if err != nil {
		return err
	}
	defer body.Close()
	d := xml.NewDecoder(&budget{r: bufio.NewReader(body), left: b.o.bookPart})
	var parents []string
	for {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, is := t.(xml.EndElement); is && len(parents) > 0 {
			parents = parents[:len(parents)-1]
		}
		if err := f(t, parents); err != nil {
			return err
		}
		if e, is := t.(xml.StartElement); is {
			if parents = append(parents, e.Name.Local); len(parents) > 100 {
				return errors.New("the XML is nested too deep")
			}
		}
	}
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// link is a relationship to another file of the archive.
type link struct{ id, kind, part string }

// links reads relationships, whose targets are below a folder.
func (b *book) links(name, folder string) (all []link, err error) {
	err = b.each(name, func(t xml.Token, _ []string) error {
		if e, is := t.(xml.StartElement); is && e.Name.Local == "Relationship" && attr(e, "TargetMode") != "External" {
			target := attr(e, "Target")
			if !strings.HasPrefix(target, "/") {
				target = path.Join(folder, target)
			}
			all = append(all, link{attr(e, "Id"), attr(e, "Type"), strings.TrimPrefix(path.Clean(target), "/")})
			if len(all) > maxBookLinks {
				return errBudget
			}
		}
		return nil
	})
	return all, err
}

// contents reads what the workbook has, besides the sheets themselves.
func (b *book) contents(main string) error {
	folder, name := path.Split(main)
	links, err := b.links(folder+"_rels/"+name+".rels", folder)
	if err != nil {
		return err
	}
	part := func(match func(link) bool) string {
		if i := slices.IndexFunc(links, match); i >= 0 {
			return links[i].part
		}
		return ""
	}
	byID := make(map[string]link, len(links))
	for _, l := range slices.Backward(links) { // of several the first counts
		byID[l.id] = l
	}
	err = b.each(main, func(t xml.Token, _ []string) error {
		e, is := t.(xml.StartElement)
		switch {
		case !is:
		case e.Name.Local == "workbookPr":
			if on, _ := strconv.ParseBool(attr(e, "date1904")); on {
				b.since = 1462
			}
		case e.Name.Local == "sheet":
			l, is := byID[attr(e, "id")]
			if is && strings.HasSuffix(l.kind, "/worksheet") {
				b.sheets = append(b.sheets, bookSheet{attr(e, "name"), l.part, attr(e, "state") != "" && attr(e, "state") != "visible"})
			}
			if len(b.sheets) > maxBookSheets {
				return errSheets
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if styles := part(func(l link) bool { return strings.HasSuffix(l.kind, "/styles") }); styles != "" {
		if err := b.styles(styles); err != nil && !errors.Is(err, errNoPart) {
			return err
		}
	}
	if texts := part(func(l link) bool { return strings.HasSuffix(l.kind, "/sharedStrings") }); texts != "" {
		if err := b.share(texts); err != nil && !errors.Is(err, errNoPart) {
			return err
		}
	}
	return nil
}

// errSheets is said of workbooks with too many sheets.
var errSheets error = fault.New(fault.Unprocessable, "the workbook has more than %d sheets: leave some out", maxBookSheets).WithCode("file_inflates")

// errShared is said of workbooks whose cells share too many texts.
var errShared error = fault.New(fault.Unprocessable, "the texts that the workbook's cells share are more than %d, or have more than %d bytes: save the sheet as CSV", maxSharedCount, maxSharedText).WithCode("workbook_texts_too_large")

// share reads the texts that cells share.
func (b *book) share(name string) error {
	body, err := b.open(name)
	if err != nil {
		return err
	}
	defer body.Close()
	bounded := &budget{r: bufio.NewReaderSize(body, 64<<10), left: b.o.bookPart}
	d := xml.NewDecoder(bounded)
	var one []byte
	for text := (richText{}); ; {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		one = text.add(t, one)
		if e, is := t.(xml.EndElement); is && e.Name.Local == "si" {
			b.texts.add(one)
			one, bounded.left = one[:0], b.o.bookPart
		}
		if int64(b.texts.size+len(one)) > b.o.bookText || b.texts.count > maxSharedCount {
			return errShared
		}
	}
}

// shared returns a text that cells share.
func (b *book) shared(i int) ([]byte, bool) {
	if i < 0 || i >= b.texts.count {
		return nil, false
	}
	return b.texts.at(i), true
}

// richText collects a text that may have parts of different looks, without how it is
// spoken.
type richText struct{ in, spoken bool }

func (r *richText) add(t xml.Token, text []byte) []byte {
	switch t := t.(type) {
	case xml.StartElement:
		r.in = t.Name.Local == "t"
		r.spoken = r.spoken || t.Name.Local == "rPh"
	case xml.EndElement:
		r.in = false
		r.spoken = r.spoken && t.Name.Local != "rPh"
	case xml.CharData:
		if r.in && !r.spoken {
			return append(text, unescape(t)...)
		}
	}
	return text
}

// unescape resolves _xHHHH_, which is how a workbook says characters that XML cannot
// (ECMA-376 part 1, 22.9.2.19, ST_Xstring).
func unescape(text []byte) []byte {
	if !bytes.Contains(text, []byte("_x")) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		if len(text) >= 7 && text[0] == '_' && text[1] == 'x' && text[6] == '_' {
			if n, err := strconv.ParseUint(string(text[2:6]), 16, 16); err == nil && (n < 0xd800 || n > 0xdfff) {
				out = append(out, string(rune(n))...)
				text = text[7:]
				continue
			}
		}
		out = append(out, text[0])
		text = text[1:]
	}
	return out
}
