//go:build !linux && !darwin

package ortlib

import "context"

// lock has nothing to guard: no library is pinned for this platform, so none
// is ever downloaded.
func lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }
