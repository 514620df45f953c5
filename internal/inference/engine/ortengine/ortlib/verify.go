package ortlib

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// verifyCached checks a cached library against its pin. Hashing it takes
// longer than starting the server should, so a stamp beside the library keeps
// the size and time at which its hash was right; anything else hashes again.
func verifyCached(path string, p pin) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %s", path, describe(info))
	}
	stamp := stampOf(info, p)
	if old, err := os.ReadFile(stampPath(path)); err == nil && string(old) == stamp {
		return nil
	}
	if err := verifyFile(path, p.library); err != nil {
		return err
	}
	// Without a stamp the next start hashes again: slower, still right.
	_ = os.WriteFile(stampPath(path), []byte(stamp), 0o600)
	return nil
}

func stampPath(path string) string { return path + ".verified" }

func stampOf(info os.FileInfo, p pin) string {
	return fmt.Sprintf("%s %d %d\n", p.library.sha256, info.Size(), info.ModTime().UnixNano())
}

// verifyFile checks the size, then the hash of a file.
func verifyFile(path string, want sized) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return copyExactly(io.Discard, f, want)
}

// copyExactly copies r to w and fails unless it is exactly the wanted content,
// reading at most one byte too many.
func copyExactly(w io.Writer, r io.Reader, want sized) error {
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(r, want.bytes+1))
	switch {
	case err != nil:
		return err
	case n > want.bytes:
		return fmt.Errorf("it is larger than the %d bytes expected", want.bytes)
	case n < want.bytes:
		return fmt.Errorf("it has %d bytes, expected %d", n, want.bytes)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.sha256 {
		return fmt.Errorf("its SHA-256 is %s, expected %s", got, want.sha256)
	}
	return nil
}
