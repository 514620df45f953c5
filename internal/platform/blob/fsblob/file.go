package fsblob

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"time"

	"sluice/internal/platform/blob"
)

// A file is data, description, footer. The footer is the description's length
// and CRC-32C, little-endian, and the magic.
const (
	footerSize  = 4 + 4 + 8
	magic       = "sluiceB1"
	maxDescribe = 64 << 10
	tailGuess   = 512 // read at once; most descriptions fit
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// description is the stored part of a blob.Info, in JSON.
type description struct {
	SHA256      string            `json:"sha256"`
	ContentType string            `json:"content_type"`
	Modified    time.Time         `json:"modified"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

func (d description) info(key string, size int64) blob.Info {
	return blob.Info{
		Key: key, Size: size, SHA256: d.SHA256, ETag: etag(d.SHA256),
		ContentType: d.ContentType, Modified: d.Modified, Metadata: d.Metadata,
	}
}

// etag is half of the digest: it changes with the content, like that of S3.
func etag(sha256 string) string { return sha256[:32] }

// encode returns description and footer.
func (d description) encode() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	n, sum := len(b), crc32.Checksum(b, castagnoli)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, magic...), nil
}

// describe reads the description of the object in f. A description is never changed: where Copy
// has given the file another name since, its own time says when.
func describe(f *os.File, key string) (blob.Info, error) {
	st, err := f.Stat()
	if err != nil {
		return blob.Info{}, translate(err)
	}
	tail, err := readTail(f, st.Size(), tailGuess)
	if err != nil {
		return blob.Info{}, translate(err)
	}
	d, n, err := decode(tail)
	if errors.Is(err, errMore) {
		if tail, err = readTail(f, st.Size(), n); err != nil {
			return blob.Info{}, translate(err)
		}
		d, n, err = decode(tail)
	}
	if err != nil {
		return blob.Info{}, blob.Rotten(key, err.Error())
	}
	if at := st.ModTime(); at.After(d.Modified) {
		d.Modified = at.UTC()
	}
	return d.info(key, st.Size()-int64(n)), nil
}

func readTail(f io.ReaderAt, size int64, n int) ([]byte, error) {
	tail := make([]byte, min(size, int64(n)))
	_, err := io.ReadFull(io.NewSectionReader(f, size-int64(len(tail)), int64(len(tail))), tail)
	return tail, err
}

var (
	errMore   = errors.New("its description is cut off")
	errFooter = errors.New("it does not end with a description")
	errSum    = errors.New("its description has another checksum")
)

// decode finds the description at the end of tail and returns how many bytes
// it and the footer take. It returns errMore where tail has fewer.
func decode(tail []byte) (description, int, error) {
	var d description
	if len(tail) < footerSize || string(tail[len(tail)-len(magic):]) != magic {
		return d, 0, errFooter
	}
	footer := tail[len(tail)-footerSize:]
	n := int64(binary.LittleEndian.Uint32(footer))
	switch total := n + footerSize; {
	case n > maxDescribe:
		return d, 0, errFooter
	case total > int64(len(tail)):
		return d, int(total), errMore
	}
	text := tail[len(tail)-footerSize-int(n) : len(tail)-footerSize]
	if crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(footer[4:]) {
		return d, 0, errSum
	}
	if err := json.Unmarshal(text, &d); err != nil || len(d.SHA256) != 64 {
		return d, 0, errFooter
	}
	return d, int(n) + footerSize, nil
}
