package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDigestIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkDigest(path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); err != nil {
		t.Error(err)
	}
	if checkDigest(path, libchdbSHA256) == nil || checkDigest(path+".none", libchdbSHA256) == nil {
		t.Error("another file is taken")
	}
}
