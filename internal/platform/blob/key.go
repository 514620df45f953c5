package blob

import (
	"strings"

	"sluice/internal/platform/fault"
)

// Bounds of keys. Object stores allow 1,024 bytes in all, file systems 255 a
// part, of which adapters keep a few.
const (
	MaxKey     = 1024
	MaxKeyPart = 240
)

// CheckKey returns an Invalid error for what is no key: two or more parts of
// letters, digits and -_.=+@~, between slashes, none of them "." or "..". What
// passes names the same object in every adapter, and no path outside of it.
func CheckKey(key string) error {
	if err := checkParts(key); err != nil {
		return err
	}
	if !strings.Contains(key, "/") {
		return badKey(key, "it has one part, expected a name space and a name, like tenant/name")
	}
	return nil
}

// CheckFolder is CheckKey for the folder of a listing: one part suffices, and
// "" is everything.
func CheckFolder(folder string) error {
	if folder == "" {
		return nil
	}
	return checkParts(folder)
}

// Below reports whether the key lies in the folder ("" for all).
func Below(folder, key string) bool {
	return folder == "" || len(key) > len(folder) && key[len(folder)] == '/' && key[:len(folder)] == folder
}

func checkParts(key string) error {
	if len(key) > MaxKey {
		return badKey(key, "it is longer than 1024 bytes")
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return badKey(key, "it has an empty part")
		case part == "." || part == "..":
			return badKey(key, "no part may be . or ..")
		case len(part) > MaxKeyPart:
			return badKey(key, "a part is longer than 240 bytes")
		}
		for i := range len(part) {
			if !keyByte(part[i]) {
				return badKey(key, "allowed are letters, digits and -_.=+@~, between slashes")
			}
		}
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-_.=+@~,", c) >= 0
}

func badKey(key, why string) error {
	return fault.New(fault.Invalid, "%q is not the key of an object: %s", fault.Clip(key, 80), why).WithCode("invalid_key")
}
