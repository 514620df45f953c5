package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// folder has objects, each a file that begins with the object's bytes.
type folder string

// load returns a payload's bytes, and fails where they are not what they were.
func (f folder) load(p payload) ([]byte, error) {
	data := []byte(p.Inline)
	if p.Object != "" {
		file, err := os.Open(filepath.Join(string(f), filepath.FromSlash(p.Object)+"%"))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if data, err = io.ReadAll(io.LimitReader(file, p.Bytes)); err != nil {
			return nil, err
		}
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 || int64(len(data)) != p.Bytes {
		return nil, fmt.Errorf("%d bytes with the digest %x, expected %d with %s", len(data), sum, p.Bytes, p.SHA256)
	}
	return data, nil
}
