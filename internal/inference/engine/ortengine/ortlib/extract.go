package ortlib

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
)

// extract writes the library inside the archive to dest and checks it. Only
// that one member is read, by its exact name, so no other path is ever written.
func extract(archive, dest string, p pin) error {
	if p.client == "npm" {
		return fromTar(archive, dest, p)
	}
	return fromZip(archive, dest, p)
}

func fromZip(archive, dest string, p pin) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, member := range z.File {
		if member.Name != p.member {
			continue
		}
		r, err := member.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		return writeLibrary(dest, r, p)
	}
	return fmt.Errorf("it holds no %s", p.member)
}

func fromTar(archive, dest string, p pin) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(gz); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it holds no %s", p.member)
		}
		if err != nil {
			return err
		}
		if header.Name == p.member && header.Typeflag == tar.TypeReg {
			return writeLibrary(dest, r, p)
		}
	}
}

// writeLibrary copies the library to a new file that outlives a power cut.
func writeLibrary(dest string, r io.Reader, p pin) error {
	f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if err = copyExactly(f, r, p.library); err != nil {
		err = fmt.Errorf("%s is not the pinned library: %w", p.member, err)
	} else {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
