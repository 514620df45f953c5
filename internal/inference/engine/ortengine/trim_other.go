//go:build !linux

package ortengine

// trim has no counterpart where the C library offers none.
func trim() {}
