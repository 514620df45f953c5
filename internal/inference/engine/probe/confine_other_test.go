//go:build !linux

package probe_test

// confinedChild has nothing to try on platforms without limits.
func confinedChild(bool) {}
