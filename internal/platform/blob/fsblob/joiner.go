package fsblob

import (
	"io"
	"os"
	"strconv"

	"sluice/internal/platform/blob"
)

// joiner reads the parts of an upload one after the other, verifying each.
type joiner struct {
	bucket *Bucket
	upload blob.Upload
	parts  []blob.Part // still to be read
	body   io.Reader   // of the first
	file   *os.File
}

// Read implements io.Reader.
func (j *joiner) Read(p []byte) (int, error) {
	for len(j.parts) > 0 {
		if j.body == nil {
			if err := j.open(j.parts[0]); err != nil {
				return 0, err
			}
		}
		n, err := j.body.Read(p)
		if err != io.EOF {
			return n, err
		}
		j.close()
		j.parts = j.parts[1:]
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func (j *joiner) open(p blob.Part) error {
	f, err := j.bucket.root.Open(partName(j.upload, p.Number) + suffix)
	if err != nil {
		if !absent(err) {
			return translate(err)
		}
		if _, err := j.bucket.upload(j.upload); err != nil {
			return err // it has ended meanwhile
		}
		return blob.BadPart(p.Number)
	}
	j.file = f
	obj, err := open(f, j.upload.Key+", part "+strconv.Itoa(p.Number), blob.GetOptions{})
	if err != nil {
		return err
	}
	if obj.Info.ETag != p.ETag || obj.Info.Size != p.Size {
		return blob.BadPart(p.Number)
	}
	j.body = obj.Verified()
	return nil
}

// close closes the part that is being read.
func (j *joiner) close() {
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.body = nil, nil
}
