package ingest

import (
	"bufio"
	"strings"

	"sluice/internal/platform/fault"
)

// budget reads as much as is left of it. It reads by bytes, so that a decoder takes no
// more than it decodes, and another can go on behind it.
type budget struct {
	r    *bufio.Reader
	left int64
	n    int64    // that was read in all
	last [64]byte // that were read
}

// errBudget is what is said where nothing is left.
var errBudget error = fault.New(fault.Unprocessable, "a part of the workbook is larger than what is held of it").WithCode("file_inflates")

// ReadByte implements io.ByteReader.
func (b *budget) ReadByte() (byte, error) {
	if b.left <= 0 {
		return 0, errBudget
	}
	c, err := b.r.ReadByte()
	if err != nil {
		return 0, err
	}
	b.last[b.n%int64(len(b.last))] = c
	b.left--
	b.n++
	return c, nil
}

// Read implements io.Reader.
func (b *budget) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var c byte
		if c, err = b.ReadByte(); err == nil {
			p[n] = c
			n++
		}
	}
	return n, err
}

// skip passes over the end tag of an element, which may have been begun, whatever the
// budget is, and gives up behind so many bytes.
func (b *budget) skip(element string, most int64) error {
	var tag []byte // that is open, its first bytes
	begun := max(b.n-int64(len(b.last)), 0)
	for at := begun; ; at++ {
		if at-begun > most {
			return fault.New(fault.Unprocessable, "a %s of the sheet has more than %d bytes of XML, behind which nothing is looked for: leave that %s out", element, most, element).WithCode(codeDamaged)
		}
		var c byte
		if at < b.n {
			c = b.last[at%int64(len(b.last))]
		} else {
			var err error
			b.left = 1
			if c, err = b.ReadByte(); err != nil {
				return short(err)
			}
		}
		switch {
		case c == '<':
			tag = append(tag[:0], c)
		case c == '>' && len(tag) > 1 && tag[1] == '/' && ends(string(tag), element):
			return nil
		case len(tag) > 0 && len(tag) < 256:
			tag = append(tag, c)
		}
	}
}

// ends says whether a tag, without its last character, ends an element.
func ends(tag, element string) bool {
	name, is := strings.CutPrefix(strings.TrimRight(tag, " \t\r\n"), "</")
	if _, local, prefixed := strings.Cut(name, ":"); prefixed {
		name = local
	}
	return is && name == element
}
